//! A tidegate process of our own: the real binary, a free port, a data folder that lives as long as the value.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::api::Api;

/// How long the process may take to answer after its start, and to end after SIGTERM.
const PATIENCE: Duration = Duration::from_secs(30);

pub struct Server {
    pub api: Api,
    child: Option<Child>,
    port: u16,
    folder: tempfile::TempDir,
}

impl Server {
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// With further settings (environment) for this start.
    pub async fn start_with(settings: &[(String, String)]) -> Self {
        let port = free_port();
        let folder =
            tempfile::Builder::new().prefix("tidegate-e2e-").tempdir().expect("a folder for the server");
        let mut server =
            Self { api: Api::new(format!("http://127.0.0.1:{port}")), child: None, port, folder };
        server.spawn(settings);
        server.ready().await;
        server
    }

    /// Starts the process again on the same port and data folder.
    pub async fn restart(&mut self) {
        self.spawn(&[]);
        self.ready().await;
    }

    /// Starts the process with further settings, and does not wait for it.
    pub fn spawn(&mut self, settings: &[(String, String)]) {
        assert!(self.child.is_none(), "the server runs");
        let log = File::options().create(true).append(true).open(self.log_path()).expect("the log file");
        let child = Command::new(crate::binary())
            .arg("serve")
            .env("TIDEGATE_LISTEN", format!("127.0.0.1:{}", self.port))
            .env("TIDEGATE_DATA_DIR", self.data_folder())
            .env("RUST_BACKTRACE", "1")
            .envs(settings.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("the log file"))
            .stderr(log)
            .spawn()
            .expect("the tidegate binary starts");
        self.child = Some(child);
    }

    /// Waits until the process answers.
    pub async fn ready(&mut self) {
        let end = Instant::now() + PATIENCE;
        while !self.api.is_ready().await {
            let ended = self.child.as_mut().and_then(|child| child.try_wait().unwrap());
            if let Some(status) = ended {
                self.child = None;
                panic!("the server ended at its start: {status}\n{}", self.log_tail());
            }
            assert!(Instant::now() < end, "the server is not ready after {PATIENCE:?}\n{}", self.log_tail());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("the server runs").id()
    }

    /// SIGKILL: no shutdown of any kind.
    pub fn kill9(&mut self) {
        let mut child = self.child.take().expect("the server runs");
        child.kill().expect("kill the server");
        child.wait().expect("the server has ended");
    }

    /// Waits until the process has ended by itself; None when it does not.
    pub async fn ended(&mut self, patience: Duration) -> Option<std::process::ExitStatus> {
        let end = Instant::now() + patience;
        while Instant::now() < end {
            let child = self.child.as_mut().expect("the server was started");
            if let Some(status) = child.try_wait().expect("the server's end") {
                self.child = None;
                return Some(status);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        None
    }

    /// SIGTERM, and waits for the end.
    pub async fn stop(&mut self) {
        let mut child = self.child.take().expect("the server runs");
        Command::new("kill").arg(child.id().to_string()).status().expect("kill");
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = child.try_wait().expect("the server's end") {
                assert!(status.success(), "the server ended with {status}\n{}", self.log_tail());
                return;
            }
            if Instant::now() > end {
                let _ = child.kill();
                let _ = child.wait();
                panic!("the server does not end {PATIENCE:?} after SIGTERM\n{}", self.log_tail());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub fn data_folder(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("server.log")
    }

    /// Everything that the server has written to its log.
    pub fn log(&self) -> String {
        std::fs::read(self.log_path())
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    pub fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    /// Every file below the data folder.
    pub fn files(&self) -> Vec<PathBuf> {
        fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() { walk(&path, found) } else { found.push(path) }
            }
        }
        let mut found = Vec::new();
        walk(&self.data_folder(), &mut found);
        found
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            self.folder.disable_cleanup(true);
            eprintln!("--- the end of {} ---\n{}", self.log_path().display(), self.log_tail());
        }
    }
}

/// Below the range that outgoing connections take theirs from: a server that is killed and started again must find its port free.
fn free_port() -> u16 {
    loop {
        let port = rand::random_range(20_000..32_000);
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
