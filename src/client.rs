//! A running server, as the command line speaks to it: over HTTP like everybody else, so that roles, audit and the one writer of
//! the store hold for it too.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use chrono::{Duration, SecondsFormat, Utc};
use clap::{Args, Subcommand};
use reqwest::{Certificate, Method, Response, Url};
use serde_json::{Value, json};

use crate::access::Role;
use crate::api;

/// Which server is meant, and as whom.
#[derive(Debug, Clone, Args)]
pub struct Remote {
    /// Address of the running server
    #[arg(long, env = "TIDEGATE_SERVER", default_value = "http://127.0.0.1:8320", global = true)]
    pub server: Url,
    /// File with the token to call with; not needed while the server has no tokens
    #[arg(long, env = "TIDEGATE_TOKEN_FILE", global = true)]
    pub token_file: Option<PathBuf>,
    /// Certificate in PEM that the server's is signed with, if it is none of the well-known
    #[arg(long, env = "TIDEGATE_CA_FILE", global = true)]
    pub ca_file: Option<PathBuf>,
}

impl Remote {
    /// Sends a request and gives the body of a good answer.
    ///
    /// # Errors
    /// A problem of the server in its own words.
    pub async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> anyhow::Result<Value> {
        let text = self.send(method, path, body).await?.text().await.context("the answer broke off")?;
        Ok(if text.is_empty() { Value::Null } else { serde_json::from_str(&text).unwrap_or(Value::Null) })
    }

    /// Sends a request and gives the good answer, its body still to come.
    async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> anyhow::Result<Response> {
        let mut client = reqwest::Client::builder();
        if let Some(file) = &self.ca_file {
            let pem = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
            client = client.add_root_certificate(Certificate::from_pem(&pem).context("--ca-file")?);
        }
        let url = self.server.join(&format!("{}{path}", api::BASE)).context("--server")?;
        let mut request = client.build()?.request(method, url);
        if let Some(file) = &self.token_file {
            let text =
                std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
            request = request.bearer_auth(text.trim());
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.with_context(|| {
            format!("{} does not answer; is the server running, and is this its address?", self.server)
        })?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let value: Value = response.json().await.unwrap_or(Value::Null);
        let word = |key: &str| value[key].as_str();
        match (word("title"), word("detail")) {
            (Some(title), Some(detail)) => {
                let page = word("type").and_then(|page| self.server.join(page).ok());
                let page = page.map_or_else(String::new, |page| format!("\n  {page} tells more"));
                let hint = if status == 401 && self.token_file.is_none() {
                    "\n  give a token with --token-file"
                } else {
                    ""
                };
                bail!("{title}: {detail}{hint}{page}")
            }
            _ => bail!("{} answered {status}, which is no answer of a tidegate server", self.server),
        }
    }
}

/// Saves a copy of the server's store to a file that is not there yet; gives its bytes. A copy that breaks off leaves no file.
pub async fn backup(remote: &Remote, file: &Path) -> anyhow::Result<u64> {
    let mut answer = remote.send(Method::POST, "/system/backup", None).await?;
    let named = || format!("cannot write {}", file.display());
    let mut copy = File::options().write(true).create_new(true).mode(0o600).open(file).with_context(named)?;
    let saved = async {
        let mut bytes = 0;
        while let Some(part) = answer.chunk().await.context("the copy broke off")? {
            copy.write_all(&part).with_context(named)?;
            bytes += part.len() as u64;
        }
        copy.sync_all().with_context(named)?;
        Ok(bytes)
    };
    let saved = saved.await;
    if saved.is_err() {
        std::fs::remove_file(file).with_context(|| format!("cannot remove the broken {}", file.display()))?;
    }
    saved
}

/// What can be done about tokens.
#[derive(Debug, Clone, Subcommand)]
pub enum TokenVerb {
    /// Make a token and print its secret, this once
    ///
    /// The first token must be an admin's; from then on every call needs a token:
    ///   tidegate token create ann --role admin > ~/.tidegate-token
    ///   export TIDEGATE_TOKEN_FILE=~/.tidegate-token
    #[command(verbatim_doc_comment)]
    Create {
        /// Small letters, digits and dashes
        name: String,
        /// viewer reads, operator does everything but tokens, backup and DDL replacement, admin everything
        #[arg(long, value_parser = role)]
        role: Role,
        /// Days until it ends [default: never]
        #[arg(long)]
        expires_days: Option<u32>,
    },
    /// Show all tokens, without their secrets
    List,
    /// Take a token away; its next call is refused
    Revoke {
        /// Its name, as `list` shows it
        name: String,
    },
}

fn role(word: &str) -> Result<Role, String> {
    Role::parse(word).ok_or_else(|| "one of viewer, operator, admin".to_owned())
}

/// Does it, and gives what is to be printed: to standard output, and beside it.
pub async fn tokens(remote: &Remote, verb: &TokenVerb) -> anyhow::Result<(String, String)> {
    match verb {
        TokenVerb::Create { name, role, expires_days } => {
            let end = expires_days.map(|days| Utc::now() + Duration::days(days.into()));
            let end = end.map(|end| end.to_rfc3339_opts(SecondsFormat::Millis, true));
            let body = json!({"name": name, "role": role, "expires_at": end});
            let made = remote.call(Method::POST, "/tokens", Some(&body)).await?;
            let secret = made["secret"].as_str().ok_or_else(|| anyhow!("the answer holds no secret"))?;
            let note = format!("token {name} with role {role}; its secret is not shown again");
            Ok((secret.to_owned(), note))
        }
        TokenVerb::List => {
            let mut lines = vec![row("NAME", "ROLE", "CREATED", "EXPIRES", "CREATED BY")];
            let mut cursor = String::new();
            loop {
                let page = remote.call(Method::GET, &format!("/tokens?limit=500{cursor}"), None).await?;
                for token in page["items"].as_array().into_iter().flatten() {
                    let word = |key: &str, none| token[key].as_str().unwrap_or(none);
                    let expired = if token["expired"] == true { " (over)" } else { "" };
                    let end = format!("{}{expired}", word("expires_at", "never"));
                    lines.push(row(
                        word("name", ""),
                        word("role", ""),
                        word("created_at", ""),
                        &end,
                        word("created_by", "-"),
                    ));
                }
                match page["next_cursor"].as_str() {
                    Some(next) => cursor = format!("&cursor={next}"),
                    None => break,
                }
            }
            Ok((lines.join("\n"), String::new()))
        }
        TokenVerb::Revoke { name } => {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
            if !name.bytes().all(plain) {
                bail!("{name} is no name of a token");
            }
            remote.call(Method::DELETE, &format!("/tokens/{name}"), None).await?;
            Ok((String::new(), format!("token {name} is revoked")))
        }
    }
}

fn row(name: &str, role: &str, created: &str, expires: &str, by: &str) -> String {
    format!("{name:<24} {role:<9} {created:<25} {expires:<32} {by}").trim_end().to_owned()
}
