//! Command line in, exit code out.

use std::process::ExitCode;

use anyhow::{Context, anyhow};
use clap::Parser;
use tidegate::app::App;
use tidegate::cli::{check, decode};
use tidegate::client::{Remote, TokenVerb};
use tidegate::config::{CommandLine, Config, Verb};
use tidegate::engine::supervisor::worker_runner;
use tidegate::{api, client, telemetry};
use tokio::signal::unix::{SignalKind, signal};

fn main() -> ExitCode {
    match run(CommandLine::parse()) {
        Ok(code) => code,
        Err(error) => {
            // For people: cause and cure, never a backtrace.
            eprintln!("tidegate: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(line: CommandLine) -> anyhow::Result<ExitCode> {
    match line.verb {
        Some(Verb::Openapi) => {
            println!("{}", serde_json::to_string_pretty(api::document())?);
            Ok(ExitCode::SUCCESS)
        }
        Some(Verb::Decode(ask)) => look(async { decode::run(&ask, &mut std::io::stdout()).await }),
        Some(Verb::Check(ask)) => look(async { check::run(&ask, &mut std::io::stdout()).await }),
        Some(Verb::Token { remote, verb }) => token(&remote, &verb).map(|()| ExitCode::SUCCESS),
        Some(Verb::Serve(config)) => serve(&config).map(|()| ExitCode::SUCCESS),
        None => serve(&line.serve).map(|()| ExitCode::SUCCESS),
    }
}

/// Runs a verb that looks at something; the exit code says whether all was well.
fn look(verb: impl Future<Output = tidegate::error::Result<bool>>) -> anyhow::Result<ExitCode> {
    install_crypto()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let good = runtime.block_on(verb).map_err(with_hint)?;
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn install_crypto() -> anyhow::Result<()> {
    rustls::crypto::ring::default_provider()
        .install_default()
        .map_err(|_| anyhow!("a crypto provider is installed already"))
}

fn token(remote: &Remote, verb: &TokenVerb) -> anyhow::Result<()> {
    install_crypto()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (out, note) = runtime.block_on(client::tokens(remote, verb))?;
    if !note.is_empty() {
        eprintln!("{note}");
    }
    if !out.is_empty() {
        println!("{out}");
    }
    Ok(())
}

fn serve(config: &Config) -> anyhow::Result<()> {
    telemetry::init_logging(&config.log, config.log_format).context("--log")?;
    install_crypto()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let app = App::start(config, worker_runner()).await.map_err(with_hint)?;
        let stop = async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        app.run_until(stop).await.map_err(with_hint)
    })
}

fn with_hint(error: tidegate::error::Error) -> anyhow::Error {
    match error.hint.clone() {
        Some(hint) => anyhow!("{error}\n  {hint}"),
        None => anyhow!("{error}"),
    }
}
