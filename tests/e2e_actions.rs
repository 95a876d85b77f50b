//! What an operator's scripts do, action by action: everything that docs/api.md promises, asked for as it is written there, of one
//! server with a real source, topic and target. Expectations come from that page; where the server differs, one of the two is wrong.
//!
//! Every answer of every action is held against section 1 besides (`client.rs`): names, times, positions, problems, request ids.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "e2e_actions/access.rs"]
mod access;
#[path = "e2e_actions/client.rs"]
mod client;
#[path = "e2e_actions/connections.rs"]
mod connections;
#[path = "e2e_actions/decide.rs"]
mod decide;
#[path = "e2e_actions/forms.rs"]
mod forms;
#[path = "e2e_actions/running.rs"]
mod running;
#[path = "e2e_actions/tasks.rs"]
mod tasks;

use client::Client;
use support::server::Server;
use support::sql;
use support::stack::Stack;

/// The source's schema, and where its copy goes.
const SCHEMA: &str = "act";
const COPY: &str = "act_copy";

#[tokio::test(flavor = "multi_thread")]
async fn an_operators_actions_do_what_the_contract_says() {
    let Some(stack) = Stack::utc("an_operators_actions_do_what_the_contract_says") else { return };
    sql::drop_schemas(&stack, &[SCHEMA, COPY]).await;
    let server = Server::start().await;
    let client = Client::new(server.api.origin());
    forms::of_requests(&client).await;
    connections::all(&client, &stack).await;
    tasks::before_start(&client, &stack).await;
    running::all(&client, &stack).await;
    decide::all(&client, &stack).await;
    tasks::to_the_end(&client).await;
    access::all(&client).await;
    let document = client.get("/openapi.json").await.is(200);
    let left_out = client.left_out(&document);
    assert_eq!(left_out, Vec::<String>::new(), "operations that nothing here carries out");
    println!("{} actions", client.actions());
    assert!(client.actions() >= 120, "{}", client.actions());
    sql::drop_schemas(&stack, &[SCHEMA, COPY]).await;
}
