//! Outages, played by librdkafka's own broker in this process.

use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use rdkafka::types::RDKafkaRespErr;
use tidegate::binlog::{ChangeSource, Incoming, KafkaSource, Topic};
use tidegate::error::{Error, ErrorKind};
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

/// What a source at the end of its log says of an outage. Callers that drop the future all the time learn it too.
async fn outage(source: &mut KafkaSource) -> Error {
    loop {
        match tokio::time::timeout(Duration::from_millis(300), source.next()).await {
            Ok(Err(error)) => return error,
            Ok(Ok(event)) => assert!(matches!(event, Incoming::CaughtUp)),
            Err(_) => {}
        }
    }
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
    let error = within(20, outage(&mut source)).await;
    println!("noticed after {:?}: {error}", began.elapsed());
    assert_eq!(error.kind, ErrorKind::Unreachable);
    assert!(began.elapsed() < Duration::from_secs(17));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_is_told_to_all_who_share_and_passes() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("t", 1, 1).unwrap();
    let brokers = cluster.bootstrap_servers();
    let topic = Topic::new(&endpoint(&brokers), "t").unwrap();
    let mut sources = [topic.follow(Offset(0)).await.unwrap(), topic.follow(Offset(0)).await.unwrap()];
    assert!(!sources[0].is_sharing() && sources[1].is_sharing(), "the second one begins a tail");
    within(20, async {
        while !sources[0].is_sharing() {
            let _ = tokio::time::timeout(Duration::from_millis(300), sources[0].next()).await;
        }
    })
    .await;
    let began = Instant::now();
    cluster.broker_down(1).unwrap();
    for source in &mut sources {
        let error = within(30, outage(source)).await;
        assert_eq!(error.kind, ErrorKind::Unreachable);
    }
    // As soon as one that reads alone, and all at once.
    assert!(began.elapsed() < Duration::from_secs(17));
    cluster.broker_up(1).unwrap();
    produce(&brokers, 1);
    for source in &mut sources {
        loop {
            if let Incoming::Message(message) = within(20, source.next()).await.unwrap() {
                assert_eq!(message.offset, Offset(0));
                break;
            }
        }
    }
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_comes_back_may_know_no_topic_for_a_moment() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("t", 1, 1).unwrap();
    let topic = Topic::new(&endpoint(&cluster.bootstrap_servers()), "t").unwrap();
    within(10, topic.verify()).await.unwrap();
    let unknown = RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
    cluster.broker_down(1).unwrap();
    let asked = tokio::spawn(async move { topic.verify().await });
    // Longer than a broker that is up may not know it.
    tokio::time::sleep(Duration::from_secs(4)).await;
    cluster.topic_error("t", unknown).unwrap();
    cluster.broker_up(1).unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    cluster.topic_error("t", RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR).unwrap();
    within(15, asked).await.unwrap().unwrap();
}
