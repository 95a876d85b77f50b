//! Command line in, exit code out.

use std::process::ExitCode;

use anyhow::{Context, anyhow};
use clap::Parser;
use tidegate::app::{self, App};
use tidegate::cli::{check, decode};
use tidegate::config::{CommandLine, Config, KeyVerb, Verb};
use tidegate::engine::supervisor::worker_runner;
use tidegate::{api, client, telemetry};
use tokio::signal::unix::{SignalKind, signal};

/// Batches of megabytes come and go on several threads: glibc's allocator keeps twice as much of them as is in use.
/// Without huge pages (the feature no_thp): with them, what is given back stays.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

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
        Some(Verb::Token { remote, verb }) => {
            let (out, note) = remotely(client::tokens(&remote, &verb))?;
            if !note.is_empty() {
                eprintln!("{note}");
            }
            if !out.is_empty() {
                println!("{out}");
            }
            Ok(ExitCode::SUCCESS)
        }
        Some(Verb::Backup { remote, file }) => {
            let bytes = remotely(client::backup(&remote, &file))?;
            eprintln!(
                "{}: {bytes} bytes; keep a copy of the server's key file too, it is not in there",
                file.display()
            );
            Ok(ExitCode::SUCCESS)
        }
        Some(Verb::Restore { file, place }) => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let old = runtime.block_on(app::restore(&place, &file)).map_err(with_hint)?;
            let kept = old.map_or_else(String::new, |old| format!("; the one before is {}", old.display()));
            eprintln!("the store of {} is {} now{kept}", place.data_dir.display(), file.display());
            Ok(ExitCode::SUCCESS)
        }
        Some(Verb::Key(KeyVerb::Rotate(place))) => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let secrets = runtime.block_on(app::rotate_key(&place)).map_err(with_hint)?;
            println!("a new key seals {secrets} secrets; keep a backup of it apart from the store's");
            Ok(ExitCode::SUCCESS)
        }
        Some(Verb::Decode(ask)) => look(async { decode::run(&ask, &mut std::io::stdout()).await }),
        Some(Verb::Check(ask)) => look(async { check::run(&ask, &mut std::io::stdout()).await }),
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

/// Runs what speaks to a server.
fn remotely<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    install_crypto()?;
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
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
