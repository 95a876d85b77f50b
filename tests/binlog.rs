//! Drainer's messages as captured, bent and broken; and the topic in a real Kafka (`TIDEGATE_TEST_KAFKA=host:port`).

#[path = "binlog"]
mod binlog {
    mod fixtures;
    mod messages;
}
