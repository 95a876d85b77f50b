//! The command line and its environment.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

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
    /// Address of the API; without tokens only a loopback address is taken
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
    }
}
