//! Prechecks, connection tests and catalogs against real servers: TiDB, Kafka and MariaDB of tests/stack.
//!
//! Addresses come from TIDEGATE_TEST_TIDB, TIDEGATE_TEST_KAFKA and TIDEGATE_TEST_MARIADB (`host:port`); without them each test
//! says SKIPPED and passes. Every test works on names of its own.

use std::io::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::producer::{FutureProducer, FutureRecord};
use serde_json::json;

use super::*;
use crate::binlog::client::client_config;
use crate::model::Tls;

struct Stack {
    tidb: MysqlEndpoint,
    kafka: KafkaEndpoint,
    mariadb: MysqlEndpoint,
    /// Where the stack's Drainer writes.
    topic: String,
    /// A schema for this test, on both sides.
    schema: String,
}

fn mysql(address: &str) -> MysqlEndpoint {
    let (host, port) = address.rsplit_once(':').unwrap();
    MysqlEndpoint {
        host: host.to_owned(),
        port: port.parse().unwrap(),
        user: "root".to_owned(),
        password: Default::default(),
        tls: Tls::default(),
    }
}

/// None, loudly, when the stack is not there.
async fn stack(test: &str) -> Option<Stack> {
    let variable = |name: &str| {
        let value = std::env::var(name).ok();
        if value.is_none() {
            let _ = writeln!(std::io::stderr(), "SKIPPED: {test}: {name} is not set");
        }
        value
    };
    let stack = Stack {
        tidb: mysql(&variable("TIDEGATE_TEST_TIDB")?),
        kafka: KafkaEndpoint {
            brokers: vec![variable("TIDEGATE_TEST_KAFKA")?],
            sasl: None,
            tls: Tls::default(),
        },
        mariadb: mysql(&variable("TIDEGATE_TEST_MARIADB")?),
        topic: std::env::var("TIDEGATE_TEST_TOPIC").unwrap_or_else(|_| "tidb_obinlog".to_owned()),
        schema: format!("precheck_{}", ulid::Ulid::new().to_string().to_lowercase()),
    };
    let schema = &stack.schema;
    sql(
        &stack.tidb,
        &[
            &format!("CREATE DATABASE {schema}"),
            &format!(
                "CREATE TABLE {schema}.orders (id BIGINT PRIMARY KEY, note VARCHAR(20), total DECIMAL(10,2))"
            ),
            &format!("CREATE TABLE {schema}.items (a INT, b INT, c TIMESTAMP, PRIMARY KEY (a, b))"),
            &format!("INSERT INTO {schema}.orders VALUES (1, 'x', 1.5)"),
        ],
    )
    .await;
    Some(stack)
}

async fn sql(endpoint: &MysqlEndpoint, statements: &[&str]) {
    let mut server = Server::new(endpoint, Endpoint::Target);
    for statement in statements {
        server.execute(statement).await.unwrap_or_else(|error| panic!("{statement}: {error}"));
    }
    server.close().await;
}

impl Stack {
    fn input(&self, changes: serde_json::Value) -> PrecheckInput {
        let mut spec = json!({
            "name": "t", "target": "d",
            "source": {"tidb": "s", "kafka": "k", "topic": self.topic},
            "objects": {"include": [format!("{}.*", self.schema)]},
        });
        for (field, value) in changes.as_object().unwrap() {
            spec[field] = value.clone();
        }
        PrecheckInput {
            own: std::collections::HashSet::new(),
            spec: Arc::new(serde_json::from_value(spec).unwrap()),
            source: Some(self.tidb.clone()),
            kafka: Some(self.kafka.clone()),
            target: self.mariadb.clone(),
            dialect: Dialect::Mysql,
        }
    }

    fn with_topic(&self, topic: &str) -> PrecheckInput {
        self.input(json!({"source": {"tidb": "s", "kafka": "k", "topic": topic}}))
    }

    async fn create_topic(&self, partitions: i32, settings: &[(&str, &str)]) -> String {
        let admin: AdminClient<DefaultClientContext> = client_config(&self.kafka).create().unwrap();
        let mut topic = NewTopic::new(&self.schema, partitions, TopicReplication::Fixed(1));
        for (name, value) in settings {
            topic = topic.set(name, value);
        }
        for result in admin.create_topics([&topic], &AdminOptions::new()).await.unwrap() {
            result.unwrap();
        }
        self.schema.clone()
    }

    async fn send(&self, topic: &str, payload: &[u8]) {
        let producer: FutureProducer = client_config(&self.kafka).create().unwrap();
        let record = FutureRecord::<(), [u8]>::to(topic).partition(0).payload(payload);
        producer.send(record, Duration::from_secs(10)).await.map_err(|(error, _)| error).unwrap();
    }

    async fn drop_schemas(&self) {
        for endpoint in [&self.tidb, &self.mariadb] {
            sql(endpoint, &[&format!("DROP DATABASE IF EXISTS {}", self.schema)]).await;
        }
    }
}

fn item<'a>(items: &'a [PrecheckItem], id: &str) -> &'a PrecheckItem {
    items.iter().find(|item| item.id == id).unwrap_or_else(|| panic!("no item {id} in {items:#?}"))
}

/// The item fails, says all of these words, and says what to do.
fn assert_fails(items: &[PrecheckItem], id: &str, words: &[&str]) {
    let item = item(items, id);
    println!("{item:#?}");
    assert_eq!(item.outcome, CheckOutcome::Fail, "{item:#?}");
    let text =
        format!("{} {} {}", item.detail, item.hint.as_deref().unwrap_or_default(), item.objects.join(" "));
    for word in words {
        assert!(text.contains(word), "{word} is not in {text}");
    }
    assert!(item.hint.as_ref().is_some_and(|hint| !hint.is_empty()));
    assert!(blocks(items));
}

#[tokio::test]
async fn a_healthy_set_up_passes() {
    let Some(stack) = stack("a_healthy_set_up_passes").await else { return };
    // The stack's Drainer needs a moment for the first message.
    let mut items;
    let started = Instant::now();
    loop {
        items = run(stack.input(json!({}))).await;
        if item(&items, "kafka.topic").outcome == CheckOutcome::Pass || started.elapsed().as_secs() > 20 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    for item in &items {
        println!(
            "{:22} {:?} {}{}",
            item.id,
            item.outcome,
            item.detail,
            item.hint.as_ref().map_or_else(String::new, |hint| format!(" [{hint}]"))
        );
    }
    assert!(!blocks(&items), "{items:#?}");
    assert_eq!(items.iter().filter(|item| item.outcome == CheckOutcome::Skipped).count(), 2, "{items:#?}");
    stack.drop_schemas().await;
}

#[tokio::test]
async fn a_wrong_password_is_named() {
    let Some(stack) = stack("a_wrong_password_is_named").await else { return };
    let user = &stack.schema[..30];
    for endpoint in [&stack.tidb, &stack.mariadb] {
        sql(endpoint, &[&format!("CREATE USER '{user}'@'%' IDENTIFIED BY 'right'")]).await;
    }
    let mut input = stack.input(json!({}));
    for endpoint in [input.source.as_mut().unwrap(), &mut input.target] {
        endpoint.user = user.to_owned();
        endpoint.password = Some("wrong".into()).into();
    }
    let items = run(input).await;
    for id in ["source.connect", "target.connect"] {
        assert_fails(&items, id, &[user, "password", "127.0.0.1"]);
        assert!(!format!("{items:?}").contains("wrong"));
    }
    assert_eq!(item(&items, "kafka.connect").outcome, CheckOutcome::Pass);
    assert_eq!(item(&items, "tables.selected").outcome, CheckOutcome::Skipped);
    for endpoint in [&stack.tidb, &stack.mariadb] {
        sql(endpoint, &[&format!("DROP USER '{user}'@'%'")]).await;
    }
    stack.drop_schemas().await;
}

#[tokio::test]
async fn an_unreachable_kafka_is_named() {
    let Some(stack) = stack("an_unreachable_kafka_is_named").await else { return };
    let mut input = stack.input(json!({}));
    input.kafka.as_mut().unwrap().brokers = vec!["127.0.0.1:1".to_owned()];
    let items = run(input).await;
    assert_fails(&items, "kafka.connect", &["127.0.0.1:1", "refused", "firewall"]);
    assert_eq!(item(&items, "kafka.topic").outcome, CheckOutcome::Skipped);
    assert_eq!(item(&items, "tables.selected").outcome, CheckOutcome::Pass);
    stack.drop_schemas().await;
}

#[tokio::test]
async fn a_listener_of_another_protocol_is_told_apart() {
    let Some(stack) = stack("a_listener_of_another_protocol_is_told_apart").await else { return };
    let mut input = stack.input(json!({}));
    input.kafka.as_mut().unwrap().tls.mode = crate::model::TlsMode::Required;
    let items = run(input).await;
    assert_fails(&items, "kafka.authentication", &["tls.mode"]);
    stack.drop_schemas().await;
}

#[tokio::test]
async fn a_missing_topic_is_named() {
    let Some(stack) = stack("a_missing_topic_is_named").await else { return };
    let items = run(stack.with_topic("no_such_topic")).await;
    assert_fails(&items, "kafka.topic", &["no_such_topic", "topic-name"]);
    assert_eq!(item(&items, "kafka.partitions").outcome, CheckOutcome::Skipped);
    stack.drop_schemas().await;
}

#[tokio::test]
async fn two_partitions_fail_and_so_does_compaction() {
    let Some(stack) = stack("two_partitions_fail_and_so_does_compaction").await else { return };
    let settings =
        [("cleanup.policy", "compact"), ("retention.ms", "3600000"), ("max.message.bytes", "1048588")];
    let topic = stack.create_topic(2, &settings).await;
    let items = run(stack.with_topic(&topic)).await;
    assert_fails(&items, "kafka.partitions", &["2 partitions", "partition 1 holds 0 messages"]);
    assert_fails(&items, "kafka.compaction", &["compact"]);
    assert_eq!(item(&items, "kafka.messages").outcome, CheckOutcome::Pass);
    assert_eq!(item(&items, "kafka.retention").outcome, CheckOutcome::Warn);
    assert!(item(&items, "kafka.message_size").hint.is_some());
    stack.drop_schemas().await;
}

#[tokio::test]
async fn a_corrupt_last_message_is_named_by_its_offset() {
    let Some(stack) = stack("a_corrupt_last_message_is_named_by_its_offset").await else { return };
    let topic = stack.create_topic(1, &[]).await;
    stack.send(&topic, &[8, 2, 16, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0xc4, 6]).await;
    let items = run(stack.with_topic(&topic)).await;
    assert_eq!(item(&items, "kafka.messages").outcome, CheckOutcome::Pass, "{items:#?}");
    stack.send(&topic, b"\x08\x00\x10\xff").await;
    let items = run(stack.with_topic(&topic)).await;
    assert_fails(&items, "kafka.messages", &["offset 1", &topic, "none of Drainer's"]);
    stack.drop_schemas().await;
}

#[tokio::test]
async fn missing_privileges_come_with_their_grant() {
    let Some(stack) = stack("missing_privileges_come_with_their_grant").await else { return };
    let (schema, user) = (&stack.schema, &stack.schema[..30]);
    sql(
        &stack.tidb,
        &[
            &format!("CREATE USER '{user}'@'%'"),
            &format!("GRANT SELECT ON {schema}.orders TO '{user}'@'%'"),
            &format!("GRANT INSERT ON {schema}.items TO '{user}'@'%'"),
        ],
    )
    .await;
    sql(
        &stack.mariadb,
        &[
            &format!("CREATE USER '{user}'@'%'"),
            &format!("GRANT SELECT, INSERT, DELETE ON {schema}.* TO '{user}'@'%'"),
        ],
    )
    .await;
    let mut input = stack.input(json!({}));
    for endpoint in [input.source.as_mut().unwrap(), &mut input.target] {
        endpoint.user = user.to_owned();
    }
    let items = run(input.clone()).await;
    assert_fails(
        &items,
        "source.privileges",
        &[&format!("{schema}.items"), &format!("GRANT SELECT ON `{schema}`.`items` TO '{user}'")],
    );
    assert_fails(&items, "target.privileges", &["CREATE, ALTER, DROP, INDEX", "GRANT ", user]);

    // What the hints say helps; on the source by a role.
    let role = format!("r{}", &user[1..]);
    sql(
        &stack.tidb,
        &[
            &format!("CREATE ROLE '{role}'"),
            &format!("GRANT SELECT ON {schema}.* TO '{role}'"),
            &format!("GRANT '{role}' TO '{user}'@'%'"),
            &format!("SET DEFAULT ROLE '{role}' TO '{user}'@'%'"),
        ],
    )
    .await;
    let hint = item(&items, "target.privileges").hint.clone().unwrap();
    let grant = hint.trim_start_matches("on the target: ").trim_end_matches(';');
    sql(&stack.mariadb, &[&format!("{grant}@'%'")]).await;
    let items = run(input).await;
    for id in ["source.privileges", "target.privileges"] {
        assert_eq!(item(&items, id).outcome, CheckOutcome::Pass, "{:#?}", item(&items, id));
    }
    sql(&stack.tidb, &[&format!("DROP USER '{user}'@'%'"), &format!("DROP ROLE '{role}'")]).await;
    sql(&stack.mariadb, &[&format!("DROP USER '{user}'@'%'")]).await;
    stack.drop_schemas().await;
}

#[tokio::test]
async fn tables_are_judged_by_what_the_servers_say() {
    let Some(stack) = stack("tables_are_judged_by_what_the_servers_say").await else { return };
    let schema = &stack.schema;
    sql(
        &stack.tidb,
        &[
            &format!("CREATE TABLE {schema}.keyless (a INT, UNIQUE KEY (a))"),
            &format!("CREATE VIEW {schema}.v AS SELECT id FROM {schema}.orders"),
        ],
    )
    .await;
    sql(
        &stack.mariadb,
        &[
            &format!("CREATE DATABASE {schema}"),
            &format!("CREATE TABLE {schema}.orders (id BIGINT PRIMARY KEY)"),
        ],
    )
    .await;
    let items = run(stack.input(json!({}))).await;
    assert!(item(&items, "tables.selected").detail.starts_with("3 tables in 1 schema"), "{items:#?}");
    assert_fails(&items, "tables.key", &[&format!("{schema}.keyless")]);
    assert_fails(&items, "tables.existing", &[&format!("{schema}.orders"), "existing_tables"]);
    let items = run(stack.input(json!({
        "existing_tables": "keep",
        "objects": {"include": [format!("{schema}.*"), format!("{schema}.gone")]},
    })))
    .await;
    assert_fails(&items, "tables.existing", &[&format!("{schema}.orders.note")]);
    assert_fails(&items, "tables.selected", &[&format!("{schema}.gone")]);
    stack.drop_schemas().await;
}

#[tokio::test]
async fn connections_are_tested_step_by_step() {
    let Some(stack) = stack("connections_are_tested_step_by_step").await else { return };
    let outcomes = |steps: &[TestStep]| {
        println!("{steps:#?}");
        steps.iter().map(|step| (step.id.clone(), step.outcome)).collect::<Vec<_>>()
    };
    let pass = |ids: &[&str]| ids.iter().map(|id| ((*id).to_owned(), CheckOutcome::Pass)).collect::<Vec<_>>();
    let sql_steps = ["reach", "log_in", "version", "privileges", "clock", "latency"];
    assert_eq!(outcomes(&test_mysql(&stack.tidb, Endpoint::Source, None).await), pass(&sql_steps));
    let target = test_mysql(&stack.mariadb, Endpoint::Target, Some(Dialect::Mysql)).await;
    assert_eq!(outcomes(&target), pass(&sql_steps));
    let kafka = test_kafka(&stack.kafka).await;
    assert_eq!(outcomes(&kafka), pass(&["reach", "log_in", "brokers", "topics", "latency"]));

    // A TiDB where a MariaDB is, and nobody at home.
    let wrong = test_mysql(&stack.mariadb, Endpoint::Source, None).await;
    assert_eq!(outcomes(&wrong)[2], ("version".to_owned(), CheckOutcome::Fail));
    let nobody = test_mysql(&mysql("127.0.0.1:1"), Endpoint::Target, Some(Dialect::Mysql)).await;
    let nobody = outcomes(&nobody);
    assert_eq!(nobody[0].1, CheckOutcome::Fail);
    assert!(nobody[1..].iter().all(|(_, outcome)| *outcome == CheckOutcome::Skipped));
    stack.drop_schemas().await;
}

#[tokio::test]
async fn catalogs_list_tables_and_topics() {
    let Some(stack) = stack("catalogs_list_tables_and_topics").await else { return };
    let schema = &stack.schema;
    let tables = catalog_mysql(&stack.tidb, Endpoint::Source, Some(schema)).await.unwrap();
    let names: Vec<(&str, &str, Vec<&str>)> = tables
        .iter()
        .map(|table| {
            let key = table.primary_key.iter().map(String::as_str).collect();
            (table.table.as_str(), table.kind.as_str(), key)
        })
        .collect();
    assert_eq!(names, [("items", "table", vec!["a", "b"]), ("orders", "table", vec!["id"])]);
    let all = catalog_mysql(&stack.tidb, Endpoint::Source, None).await.unwrap();
    assert!(all.len() >= 2 && all.iter().all(|table| table.schema != "mysql"));
    let missing = catalog_mysql(&stack.tidb, Endpoint::Source, Some("no_such_schema")).await.unwrap_err();
    assert_eq!(missing.kind, crate::error::ErrorKind::Missing);

    let topic = stack.create_topic(1, &[("retention.ms", "86400000")]).await;
    stack.send(&topic, &[8, 2, 16, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0xc4, 6]).await;
    stack.send(&topic, b"nonsense").await;
    let of_topic = catalog_kafka(&stack.kafka, Some(&topic)).await.unwrap();
    println!("{of_topic:#?}");
    let [of_topic] = of_topic.as_slice() else { panic!("one topic") };
    assert_eq!((of_topic.partitions, of_topic.retention_ms), (1, Some(86_400_000)));
    assert_eq!((of_topic.start_offset.as_deref(), of_topic.end_offset.as_deref()), (Some("0"), Some("2")));
    assert!(
        of_topic
            .first_message
            .as_ref()
            .is_some_and(|text| text.starts_with("offset 0: a watermark, committed"))
    );
    assert!(of_topic.last_message.as_ref().is_some_and(|text| text.contains("not a message of Drainer")));
    let all = catalog_kafka(&stack.kafka, None).await.unwrap();
    assert!(all.iter().any(|one| one.topic == topic && one.last_message.is_none()));
    let missing = catalog_kafka(&stack.kafka, Some("no_such_topic")).await.unwrap_err();
    assert_eq!(missing.kind, crate::error::ErrorKind::Missing);
    stack.drop_schemas().await;
}
