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
#[command(version, args_conflicts_with_subcommands = true)]
pub struct CommandLine {
    #[command(subcommand)]
    pub verb: Option<Verb>,
    #[command(flatten)]
    pub serve: Config,
}

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Run the server (the default)
    Serve(Config),
    /// Print the OpenAPI document
    Openapi,
    /// Print Drainer messages in readable form: from files, text, or a topic
    Decode(Box<Decode>),
    /// See whether a spec, a connection or a data folder is sound
    ///
    /// One line per thing looked at: pass, warn or FAIL, with the cure. The exit code is 1 when one fails.
    #[command(subcommand)]
    Check(Check),
    /// Make, list and revoke the access tokens of a running server
    Token {
        #[command(flatten)]
        remote: Remote,
        #[command(subcommand)]
        verb: TokenVerb,
    },
    /// Save a copy of a running server's store: connections, tasks, checkpoints, events
    ///
    /// The key file is not part of it (secrets in the copy stay sealed): keep a copy of that apart.
    ///   tidegate backup tidegate-$(date +%F).db
    #[command(verbatim_doc_comment)]
    Backup {
        #[command(flatten)]
        remote: Remote,
        /// Where to; the file must not be there yet
        file: PathBuf,
    },
    /// Put a copy of the store back, while no server runs on the data folder
    ///
    /// The store that is there is kept beside it. Tasks go on from the checkpoints of the copy: what came since is applied again.
    #[command(verbatim_doc_comment)]
    Restore {
        /// A file that `tidegate backup` saved
        file: PathBuf,
        #[command(flatten)]
        place: DataFolder,
    },
    /// The key that seals secrets
    #[command(subcommand)]
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
    /// Certificate chain in PEM: the API is served over TLS; a renewed file is taken up within a minute
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
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        use clap::CommandFactory;
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
}
