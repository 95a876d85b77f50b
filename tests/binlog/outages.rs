//! Outages, played by librdkafka's own broker in this process.

use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use tidegate::binlog::{ChangeSource, Incoming, Topic};
use tidegate::error::ErrorKind;
use tidegate::model::Offset;

use super::kafka::{endpoint, within};

fn produce(brokers: &str, count: usize) {
    let producer: ThreadedProducer<DefaultProducerContext> =
        ClientConfig::new().set("bootstrap.servers", brokers).create().unwrap();
    for _ in 0..count {
        producer
            .send(BaseRecord::<(), [u8]>::to("t").partition(0).payload(b"x"))
            .map_err(|(e, _)| e)
            .unwrap();
    }
    producer.flush(Duration::from_secs(10)).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_there_is_unreachable_and_says_why() {
    let topic = Topic::new(&endpoint("127.0.0.1:1"), "t").unwrap();
    let began = Instant::now();
    let error = within(15, topic.open(Offset(0))).await.err().unwrap();
    println!("noticed after {:?}: {error}", began.elapsed());
    assert_eq!(error.kind, ErrorKind::Unreachable);
    assert!(error.message.contains("127.0.0.1:1"), "{error}");
    let error = within(15, topic.cluster_id()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unreachable);
    let unknown = Topic::new(&endpoint("no-such-host.invalid:9092"), "t").unwrap();
    let error = within(15, unknown.log_range()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unreachable);
    assert!(error.message.contains("no-such-host.invalid"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_of_the_stream_is_noticed_and_a_short_one_survived() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("t", 1, 1).unwrap();
    let brokers = cluster.bootstrap_servers();
    produce(&brokers, 10);
    let topic = Topic::new(&endpoint(&brokers), "t").unwrap();
    let mut source = topic.open(Offset(0)).await.unwrap();
    for offset in 0..10 {
        let Incoming::Message(message) = within(10, source.next()).await.unwrap() else {
            panic!("no message")
        };
        assert_eq!(message.offset, Offset(offset));
    }
    assert!(matches!(within(5, source.next()).await.unwrap(), Incoming::CaughtUp));

    cluster.broker_down(1).unwrap();
    assert!(tokio::time::timeout(Duration::from_secs(3), source.next()).await.is_err());
    cluster.broker_up(1).unwrap();
    produce(&brokers, 1);
    let Incoming::Message(message) = within(15, source.next()).await.unwrap() else { panic!("no message") };
    assert_eq!(message.offset, Offset(10));

    cluster.broker_down(1).unwrap();
    let began = Instant::now();
    // Callers that drop the future all the time learn it too.
    let error = within(20, async {
        loop {
            match tokio::time::timeout(Duration::from_millis(300), source.next()).await {
                Ok(Err(error)) => return error,
                Ok(Ok(event)) => assert!(matches!(event, Incoming::CaughtUp)),
                Err(_) => {}
            }
        }
    })
    .await;
    println!("noticed after {:?}: {error}", began.elapsed());
    assert_eq!(error.kind, ErrorKind::Unreachable);
    assert!(began.elapsed() < Duration::from_secs(17));
}

#[test]
fn settings_that_cannot_be_are_an_error() {
    let mut endpoint = endpoint("127.0.0.1:1");
    endpoint.sasl = Some(tidegate::model::Sasl {
        mechanism: "SCRAM-SHA-1024".to_owned(),
        user: "u".to_owned(),
        password: "p".to_owned().into(),
    });
    let error = Topic::new(&endpoint, "t").err().unwrap();
    assert_eq!(error.kind, ErrorKind::Configuration);
    assert!(!error.message.contains("password"));
}
