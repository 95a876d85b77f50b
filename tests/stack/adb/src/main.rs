//! A strict stand-in for AnalyticDB for MySQL 3.0 in front of a MariaDB: the dialect, the rules and the faults that a writer meets there.
//!
//!     adb-stand-in LISTEN_PORT CONTROL_PORT MARIADB_PORT
//!
//! MariaDB (a data folder of its own, root without a password) keeps the rows and the sessions; this relays the protocol, turns AnalyticDB's
//! definitions into MariaDB's, and refuses what AnalyticDB refuses. tests/stack/README.md says which rules and which faults.

#![forbid(unsafe_code)]

mod alter;
mod catalog;
mod client;
mod column;
mod control;
mod plan;
mod refusal;
mod relay;
mod rows;
mod script;
mod table;
mod token;
mod types;
mod wire;

use std::io;
use std::net::TcpListener;

use catalog::Catalog;
use relay::Relay;
use script::Script;

fn main() -> io::Result<()> {
    let ports: Vec<u16> = std::env::args().skip(1).filter_map(|word| word.parse().ok()).collect();
    let [listen, control, mariadb] = ports[..] else {
        return Err(io::Error::other("usage: adb-stand-in LISTEN_PORT CONTROL_PORT MARIADB_PORT"));
    };
    let catalog = Catalog::open(mariadb)?;
    let script = Script::default();
    let endpoint = TcpListener::bind(("127.0.0.1", control))?;
    let listener = TcpListener::bind(("127.0.0.1", listen))?;
    let of_control = script.clone();
    std::thread::spawn(move || control::serve(&endpoint, &of_control));
    for client in listener.incoming().flatten() {
        let (catalog, script) = (catalog.clone(), script.clone());
        std::thread::spawn(move || {
            // A client that goes, a session that is killed and a cut that was asked for end a connection all alike.
            let _ = Relay::connect(client, mariadb, catalog, script).and_then(Relay::run);
        });
    }
    Ok(())
}
