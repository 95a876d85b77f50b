//! The command line and its environment.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::cli::check::Check;
use crate::cli::decode::Decode;
use crate::client::{Remote, TokenVerb};
use crate::telemetry::LogFormat;

/// Keeps AnalyticDB for MySQL, or any MySQL-protocol target, in step with a TiDB cluster.
#[derive(Debug, Parser)]
#[command(
    version,
    args_conflicts_with_subcommands = true,
    after_help = "Examples:
  tidegate                                          the server, at 127.0.0.1:8320; its page shows what runs
  tidegate serve --help                             how it can be set up
  tidegate decode --brokers kafka:9092 --topic 7032_obinlog   what a Drainer has sent last"
)]
pub struct CommandLine {
    #[command(subcommand)]
    pub verb: Option<Verb>,
    #[command(flatten)]
    pub serve: Config,
}

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Run the server (the default)
    #[command(after_help = "Examples:
  tidegate serve                                    at 127.0.0.1:8320, the store in ./tidegate-data
  tidegate serve --data-dir /var/lib/tidegate --log-format json
  tidegate serve --listen 0.0.0.0:8320 --bootstrap-token-file first-token --tls-cert chain.pem --tls-key key.pem

It answers /readyz with 200 once its tasks run again; /docs explains the API, / shows what runs. It ends in order at SIGTERM and SIGINT:
tasks finish what is in flight, and go on from there at the next start.")]
    Serve(Config),
    /// Print the OpenAPI document
    #[command(after_help = "Examples:
  tidegate openapi > openapi.json                   to generate a client from, for example

A running server gives the same document at /api/v1/openapi.json, and shows it at /docs.")]
    Openapi,
    /// Print Drainer messages in readable form: from files, text, or a topic
    Decode(Box<Decode>),
    /// See whether a spec, a connection or a data folder is sound
    ///
    /// One line per thing looked at: pass, warn or FAIL, with the cure. The exit code is 1 when one fails.
    #[command(
        subcommand,
        after_help = "Examples:
  tidegate check spec task.json                     before it is posted to a server
  tidegate check connection tidb.json               can it be reached, does it let the user in
  tidegate check data --data-dir /var/lib/tidegate  a stopped server's store and key"
    )]
    Check(Check),
    /// Make, list and revoke the access tokens of a running server
    #[command(after_help = "Examples:
  tidegate token create ann --role admin > ann.token        the first one shuts the door for everybody without
  tidegate token --token-file ann.token create grafana --role viewer --expires-days 90
  tidegate token --token-file ann.token list
  tidegate token --token-file ann.token revoke grafana")]
    Token {
        #[command(flatten)]
        remote: Remote,
        #[command(subcommand)]
        verb: TokenVerb,
    },
    /// Save a copy of a running server's store: connections, tasks, checkpoints, events
    ///
    /// The key file is not part of it (secrets in the copy stay sealed): keep a copy of that apart.
    #[command(after_help = "Examples:
  tidegate backup tidegate-$(date +%F).db
  tidegate backup --server https://gate.example:8320 --token-file ann.token tidegate.db")]
    Backup {
        #[command(flatten)]
        remote: Remote,
        /// Where to; the file must not be there yet
        file: PathBuf,
    },
    /// Put a copy of the store back, while no server runs on the data folder
    ///
    /// The store that is there is kept beside it. Tasks go on from the checkpoints of the copy: what came since is applied again.
    #[command(after_help = "Examples:
  tidegate restore tidegate-2026-11-29.db --data-dir /var/lib/tidegate")]
    Restore {
        /// A file that `tidegate backup` saved
        file: PathBuf,
        #[command(flatten)]
        place: DataFolder,
    },
    /// The key that seals secrets
    #[command(
        subcommand,
        after_help = "Examples:
  tidegate key rotate --data-dir /var/lib/tidegate  when the key may have been seen; keep a backup of the new one"
    )]
    Key(KeyVerb),
}

#[derive(Debug, Subcommand)]
pub enum KeyVerb {
    /// Seal all secrets under a new key and put it in the place of the old one; the server must be stopped
    Rotate(DataFolder),
}

/// Where the store and the key are.
#[derive(Debug, Clone, Args)]
pub struct DataFolder {
    /// Folder of the store
    #[arg(long, env = "TIDEGATE_DATA_DIR", default_value = "./tidegate-data")]
    pub data_dir: PathBuf,
    /// File with the key that seals secrets [default: `key` in the data folder]
    #[arg(long, env = "TIDEGATE_KEY_FILE")]
    pub key_file: Option<PathBuf>,
}

/// How the server runs.
#[derive(Debug, Clone, Args)]
pub struct Config {
    /// Address of the API; beyond loopback only with tokens (see --bootstrap-token-file)
    #[arg(long, env = "TIDEGATE_LISTEN", default_value = "127.0.0.1:8320")]
    pub listen: SocketAddr,
    /// Folder of the store; created when it is missing
    #[arg(long, env = "TIDEGATE_DATA_DIR", default_value = "./tidegate-data")]
    pub data_dir: PathBuf,
    /// File with the key that seals secrets [default: `key` in the data folder, created at the first start]
    #[arg(long, env = "TIDEGATE_KEY_FILE")]
    pub key_file: Option<PathBuf>,
    /// What is logged: error, warn, info, debug or trace, also by module
    #[arg(long, env = "TIDEGATE_LOG", default_value = "info")]
    pub log: String,
    /// How lines of the log look: for people, or one JSON object each
    #[arg(long, env = "TIDEGATE_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
    /// Longest time that running tasks get to finish what is in flight when the process stops
    #[arg(long, env = "TIDEGATE_SHUTDOWN_MS", default_value_t = 8000)]
    pub shutdown_ms: u64,
    /// Days that events are kept
    #[arg(long, env = "TIDEGATE_EVENT_DAYS", default_value_t = 90, value_parser = clap::value_parser!(u32).range(1..))]
    pub event_days: u32,
    /// Events that are kept at most; the oldest go first
    #[arg(long, env = "TIDEGATE_EVENT_ROWS", default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1000..))]
    pub event_rows: u32,
    #[command(flatten)]
    pub access: AccessConfig,
}

/// Who is let in, and how.
#[derive(Debug, Clone, Default, Args)]
pub struct AccessConfig {
    /// File with the secret of the first token, an admin's; read while there is no valid token of an admin
    #[arg(long, env = "TIDEGATE_BOOTSTRAP_TOKEN_FILE")]
    pub bootstrap_token_file: Option<PathBuf>,
    /// Certificate chain in PEM: the API is served over TLS; a renewed file is taken up within seconds
    #[arg(long, env = "TIDEGATE_TLS_CERT", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// Private key of the certificate in PEM
    #[arg(long, env = "TIDEGATE_TLS_KEY", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Host names that are served, besides loopback [default: every name once there are tokens, loopback before]
    #[arg(long = "allowed-host", env = "TIDEGATE_ALLOWED_HOSTS", value_delimiter = ',')]
    pub allowed_hosts: Vec<String>,
    /// Origins (https://console.example) whose web pages may call, with a token [default: none]
    #[arg(long = "cors-origin", env = "TIDEGATE_CORS_ORIGINS", value_delimiter = ',')]
    pub cors_origins: Vec<String>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        CommandLine::command().debug_assert();
        let line = CommandLine::parse_from(["tidegate", "--listen", "127.0.0.1:1"]);
        assert!(line.verb.is_none());
        assert_eq!(line.serve.listen.port(), 1);
        let line = CommandLine::parse_from(["tidegate", "serve", "--listen", "127.0.0.1:2"]);
        assert!(matches!(line.verb, Some(Verb::Serve(config)) if config.listen.port() == 2));
        assert!(matches!(CommandLine::parse_from(["tidegate", "openapi"]).verb, Some(Verb::Openapi)));
        let line = CommandLine::parse_from(["tidegate", "decode", "-"]);
        assert!(matches!(line.verb, Some(Verb::Decode(_))));
        let line = CommandLine::parse_from(["tidegate", "check", "spec", "a.json"]);
        assert!(matches!(line.verb, Some(Verb::Check(_))));
    }

    /// Every option says what it is for, and what a verb shows as an example is one.
    #[test]
    fn help_teaches_and_its_examples_are_taken() {
        let mut line = CommandLine::command();
        line.build();
        let mut verbs: Vec<_> = line.get_subcommands().filter(|verb| verb.get_name() != "help").collect();
        verbs.push(&line);
        let mut examples = 0;
        for verb in &verbs {
            let help = verb.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.starts_with("Examples:\n"), "{} shows no example", verb.get_name());
            for example in help.lines().filter_map(|line| line.strip_prefix("  tidegate")) {
                // What stands after two spaces is said about it.
                let words = example.split("  ").next().unwrap_or_default();
                let words = words.split_whitespace().take_while(|word| !["|", ">"].contains(word));
                // A date of today is one word for the shell.
                let words = words.filter(|word| *word != "+%F).db");
                if words.clone().any(|word| word == "--help") {
                    continue;
                }
                let parsed = CommandLine::try_parse_from(std::iter::once("tidegate").chain(words));
                assert!(parsed.is_ok(), "tidegate{example}: {}", parsed.unwrap_err());
                examples += 1;
            }
        }
        assert!(examples > 15, "{examples}");
        let leaves = verbs.iter().flat_map(|verb| verb.get_subcommands()).chain(verbs.iter().copied());
        for verb in leaves.filter(|verb| verb.get_name() != "help") {
            for option in verb.get_arguments() {
                assert!(
                    option.get_help().is_some(),
                    "{} {} is not explained",
                    verb.get_name(),
                    option.get_id()
                );
            }
        }
    }
}
