//! Drainer's messages as captured, bent and broken; and the topic in a real Kafka (`TIDEGATE_TEST_KAFKA=host:port`).

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "binlog"]
mod binlog {
    mod fixtures;
    mod kafka;
    mod messages;
    mod outages;
}
