//! Against a real Kafka: `TIDEGATE_TEST_KAFKA=host:port`, any user may create topics.

use std::io::Write as _;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::{ClientContext, DefaultClientContext};
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer, ProducerContext, ThreadedProducer};
use rdkafka::{Offset as RdOffset, TopicPartitionList};
use tidegate::binlog::encode::{Binlog, Encode, Table};
use tidegate::binlog::seen::Limits;
use tidegate::binlog::{ChangeSource, Incoming, KafkaSource, RawMessage, SeenSet, Start, Topic, Verdict};
use tidegate::error::{Error, ErrorKind};
use tidegate::model::{KafkaEndpoint, Offset, Tls, Tso, Value};

pub fn endpoint(broker: &str) -> KafkaEndpoint {
    KafkaEndpoint { brokers: vec![broker.to_owned()], sasl: None, tls: Tls::default() }
}

/// A topic of its own for each test.
pub struct Bench {
    broker: String,
    pub name: String,
}

type TestProducer = ThreadedProducer<Delivered>;

/// Fails the test when a message is not delivered.
pub struct Delivered;

impl ClientContext for Delivered {}

impl ProducerContext for Delivered {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, message)) = result {
            eprintln!("{} bytes are not delivered: {error}", message.payload_len());
            std::process::abort();
        }
    }
}

impl Bench {
    pub async fn new(name: &str, partitions: i32) -> Option<Self> {
        let Ok(broker) = std::env::var("TIDEGATE_TEST_KAFKA") else {
            let _ = writeln!(std::io::stderr(), "SKIPPED: {name}: TIDEGATE_TEST_KAFKA is not set");
            return None;
        };
        let name = format!("tidegate_{name}_{:08x}", rand::random::<u32>());
        let bench = Self { broker, name };
        bench.create(partitions).await;
        Some(bench)
    }

    fn admin(&self) -> AdminClient<DefaultClientContext> {
        self.config().create().unwrap()
    }

    fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.broker);
        config
    }

    pub async fn create(&self, partitions: i32) {
        let topic = NewTopic::new(&self.name, partitions, TopicReplication::Fixed(1))
            .set("max.message.bytes", "1073741824");
        for result in self.admin().create_topics(&[topic], &AdminOptions::new()).await.unwrap() {
            result.unwrap();
        }
    }

    pub async fn delete(&self) {
        self.admin().delete_topics(&[&self.name], &AdminOptions::new()).await.unwrap();
    }

    /// What retention does.
    pub async fn trim(&self, start: i64) {
        let mut offsets = TopicPartitionList::new();
        offsets.add_partition_offset(&self.name, 0, RdOffset::Offset(start)).unwrap();
        self.admin().delete_records(&offsets, &AdminOptions::new()).await.unwrap();
    }

    fn producer(&self, settings: &[(&str, &str)]) -> TestProducer {
        let mut config = self.config();
        config
            .set("message.max.bytes", "1000000000")
            .set("linger.ms", "5")
            .set("queue.buffering.max.kbytes", "2097151");
        for (key, value) in settings {
            config.set(*key, *value);
        }
        config.create_with_context(Delivered).unwrap()
    }

    pub fn produce<'a>(&self, partition: i32, payloads: impl IntoIterator<Item = &'a [u8]>) {
        let producer = self.producer(&[]);
        for payload in payloads {
            let mut record = BaseRecord::<(), [u8]>::to(&self.name).partition(partition).payload(payload);
            while let Err((_, back)) = producer.send(record) {
                record = back;
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        producer.flush(Duration::from_secs(60)).unwrap();
    }

    pub fn topic(&self) -> Topic {
        Topic::new(&endpoint(&self.broker), &self.name).unwrap()
    }
}

pub async fn within<T>(seconds: u64, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(seconds), future).await.expect("takes too long")
}

async fn message(source: &mut KafkaSource) -> RawMessage {
    loop {
        if let Incoming::Message(message) = within(20, source.next()).await.unwrap() {
            return message;
        }
    }
}

async fn failure(seconds: u64, source: &mut KafkaSource) -> Error {
    within(seconds, async {
        loop {
            if let Err(error) = source.next().await {
                return error;
            }
        }
    })
    .await
}

#[track_caller]
fn lost(error: &Error, words: &str) {
    assert_eq!(error.kind, ErrorKind::PositionLost, "{error}");
    assert!(error.message.contains(words), "{error}");
    assert!(error.hint.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_come_in_order_from_any_offset() {
    let Some(bench) = Bench::new("order", 1).await else { return };
    let payloads: Vec<Vec<u8>> = (0..5000).map(|n: u32| n.to_string().into_bytes()).collect();
    bench.produce(0, payloads.iter().map(Vec::as_slice));
    let topic = bench.topic();
    assert!(!topic.cluster_id().await.unwrap().is_empty());
    let range = topic.log_range().await.unwrap();
    assert_eq!((range.start, range.end), (Offset(0), Offset(5000)));
    assert_eq!(topic.find_start(Start::Earliest).await.unwrap(), Offset(0));
    assert_eq!(topic.find_start(Start::Latest).await.unwrap(), Offset(5000));
    for start in [0, 1, 4999, 5000] {
        let mut source = topic.open(topic.find_start(Start::At(Offset(start))).await.unwrap()).await.unwrap();
        for offset in start..5000 {
            let message = message(&mut source).await;
            assert_eq!(message.offset, Offset(offset));
            assert_eq!(message.payload, payloads[offset as usize]);
        }
        assert!(matches!(within(5, source.next()).await.unwrap(), Incoming::CaughtUp));
        assert_eq!((source.next_offset(), source.gaps()), (Offset(5000), 0));
        // Giving up the future loses nothing.
        assert!(tokio::time::timeout(Duration::from_millis(100), source.next()).await.is_err());
    }
    let mut source = topic.open(Offset(5000)).await.unwrap();
    bench.produce(0, [&b"late"[..]]);
    let end = tokio::time::Instant::now() + Duration::from_secs(30);
    while tokio::time::Instant::now() < end {
        if let Ok(Ok(Incoming::Message(message))) =
            tokio::time::timeout(Duration::from_millis(1), source.next()).await
        {
            assert_eq!((message.offset, &message.payload[..]), (Offset(5000), &b"late"[..]));
            assert!(message.kafka_timestamp_ms.is_some());
            return;
        }
    }
    panic!("the message is lost");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_topic_is_missing_and_stays_so() {
    let Some(bench) = Bench::new("missing", 1).await else { return };
    let topic = Topic::new(&endpoint(&bench.broker), &format!("{}_not", bench.name)).unwrap();
    for _ in 0..2 {
        let error = within(15, topic.open(Offset(0))).await.err().unwrap();
        assert_eq!(error.kind, ErrorKind::Missing, "{error}");
    }
    assert_eq!(within(15, topic.log_range()).await.unwrap_err().kind, ErrorKind::Missing);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_offset_outside_the_log_is_lost() {
    let Some(bench) = Bench::new("range", 1).await else { return };
    bench.produce(0, (0..20).map(|_| &b"x"[..]));
    bench.trim(10).await;
    let topic = bench.topic();
    lost(
        &topic.open(Offset(9)).await.err().unwrap(),
        "offset 9 was deleted by the topic's retention: the log holds 10 to 20",
    );
    lost(&topic.open(Offset(21)).await.err().unwrap(), "offset 21 is beyond the end of the log (10 to 20)");
    let mut source = topic.open(Offset(10)).await.unwrap();
    assert_eq!(message(&mut source).await.offset, Offset(10));
    assert_eq!(topic.find_start(Start::Earliest).await.unwrap(), Offset(10));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retention_that_overtakes_the_stream_is_an_error_not_a_jump() {
    let Some(bench) = Bench::new("overtaken", 1).await else { return };
    let payload = vec![7u8; 1 << 20];
    bench.produce(0, (0..80).map(|_| payload.as_slice()));
    let mut source = bench.topic().open(Offset(0)).await.unwrap();
    assert_eq!(message(&mut source).await.offset, Offset(0));
    bench.trim(78).await;
    let error = failure(20, &mut source).await;
    lost(&error, "was deleted by the topic's retention: the log holds 78 to 80");
    assert!(source.next_offset() < Offset(78));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_deleted_or_made_again_is_lost() {
    let Some(bench) = Bench::new("again", 1).await else { return };
    bench.produce(0, (0..20).map(|_| &b"x"[..]));
    let topic = bench.topic();
    let mut source = topic.open(Offset(20)).await.unwrap();
    assert!(matches!(within(5, source.next()).await.unwrap(), Incoming::CaughtUp));
    bench.delete().await;
    let began = Instant::now();
    let error = failure(40, &mut source).await;
    println!("deleted topic noticed after {:?}: {error}", began.elapsed());
    lost(&error, "the topic was deleted");

    bench.create(1).await;
    bench.produce(0, (0..20).map(|_| &b"x"[..]));
    let mut source = topic.open(Offset(20)).await.unwrap();
    assert!(matches!(within(5, source.next()).await.unwrap(), Incoming::CaughtUp));
    bench.delete().await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    bench.create(1).await;
    bench.produce(0, [&b"other"[..]]);
    let began = Instant::now();
    let error = failure(40, &mut source).await;
    println!("topic made again noticed after {:?}: {error}", began.elapsed());
    assert_eq!(error.kind, ErrorKind::PositionLost, "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn further_partitions_must_be_empty() {
    let Some(bench) = Bench::new("partitions", 2).await else { return };
    bench.produce(0, [&b"x"[..]]);
    let topic = bench.topic();
    topic.verify().await.unwrap();
    assert_eq!(message(&mut topic.open(Offset(0)).await.unwrap()).await.offset, Offset(0));
    bench.produce(1, [&b"x"[..]]);
    let error = topic.open(Offset(0)).await.err().unwrap();
    assert_eq!(error.kind, ErrorKind::Configuration);
    assert!(error.message.contains("partition 1 holds messages"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_messages_come_whole() {
    let Some(bench) = Bench::new("large", 1).await else { return };
    let large: Vec<u8> = (0..20_000_000u32).map(|n| (n % 251) as u8).collect();
    let huge = vec![9u8; 150_000_000];
    bench.produce(0, [&b"small"[..], &large, b"small", &huge, b"small"]);
    let mut source = bench.topic().open(Offset(0)).await.unwrap();
    let began = Instant::now();
    for size in [5, large.len(), 5, huge.len(), 5] {
        assert_eq!(message(&mut source).await.payload.len(), size);
    }
    println!("20 MB and 150 MB read in {:?}", began.elapsed());
    assert_eq!(source.gaps(), 0);
}

/// The sources in step at the end of the log, over one client.
async fn sharing(topic: &Topic, at: i64, count: usize) -> Vec<KafkaSource> {
    let mut sources = Vec::new();
    for _ in 0..count {
        sources.push(topic.follow(Offset(at)).await.unwrap());
    }
    within(60, async {
        while !sources.iter().all(KafkaSource::is_sharing) {
            for source in &mut sources {
                let said = tokio::time::timeout(Duration::from_millis(200), source.next()).await;
                assert!(matches!(said, Err(_) | Ok(Ok(Incoming::CaughtUp))), "{said:?}");
            }
        }
    })
    .await;
    sources
}

/// Everything from the offset on, with each byte of the messages.
async fn read(mut source: KafkaSource, from: i64, payloads: Vec<Vec<u8>>, every: Duration) -> KafkaSource {
    for (offset, payload) in (from..).zip(&payloads) {
        let message = message(&mut source).await;
        assert_eq!((message.offset, &message.payload[..]), (Offset(offset), payload.as_slice()));
        tokio::time::sleep(every).await;
    }
    // Once, and not again without a message in between.
    let end = within(20, source.next()).await.unwrap();
    assert!(matches!(end, Incoming::CaughtUp), "{end:?}");
    assert!(tokio::time::timeout(Duration::from_millis(100), source.next()).await.is_err());
    source
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_stands_at_the_end_shares_a_client_and_who_alone_does_not() {
    let Some(bench) = Bench::new("tail", 1).await else { return };
    let payloads = |from: u32| (from..from + 3000).map(|n| n.to_string().into_bytes()).collect::<Vec<_>>();
    bench.produce(0, payloads(0).iter().map(Vec::as_slice));
    let topic = bench.topic();
    let mut alone = topic.follow(Offset(3000)).await.unwrap();
    assert!(matches!(within(5, alone.next()).await.unwrap(), Incoming::CaughtUp));
    assert!(tokio::time::timeout(Duration::from_secs(6), alone.next()).await.is_err());
    assert!(!alone.is_sharing());
    drop(alone);

    let sources = sharing(&topic, 3000, 3).await;
    bench.produce(0, payloads(3000).iter().map(Vec::as_slice));
    let at_once = Duration::ZERO;
    let reading = sources.into_iter().map(|source| read(source, 3000, payloads(3000), at_once));
    let sources = within(30, futures_util::future::join_all(reading)).await;
    assert!(sources.iter().all(|source| source.is_sharing() && source.gaps() == 0));
    // One that begins where the others have been takes a place beside them, one from long ago does not.
    let near = topic.follow(Offset(4000)).await.unwrap();
    assert!(near.is_sharing());
    let far = topic.follow(Offset(10)).await.unwrap();
    assert!(!far.is_sharing());
    let (near, _far) = tokio::join!(
        read(near, 4000, payloads(3000)[1000..].to_vec(), at_once),
        read(far, 10, [payloads(0), payloads(3000)].concat()[10..].to_vec(), at_once)
    );
    assert!(near.is_sharing());
    // What others no longer do changes nothing.
    drop(sources);
    bench.produce(0, [&b"last"[..]]);
    read(near, 6000, vec![b"last".to_vec()], at_once).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_too_slow_for_the_others_goes_on_alone_and_misses_nothing() {
    let Some(bench) = Bench::new("slow", 1).await else { return };
    let mut sources = sharing(&bench.topic(), 0, 3).await;
    let payloads: Vec<Vec<u8>> = (0..200u8).map(|n| vec![n; 100_000]).collect();
    bench.produce(0, payloads.iter().map(Vec::as_slice));
    let (stalled, slow, quick) = (sources.pop().unwrap(), sources.pop().unwrap(), sources.pop().unwrap());
    // Who is slower holds up the others for a moment only.
    let (quick, slow) = within(60, async {
        tokio::join!(
            read(quick, 0, payloads.clone(), Duration::ZERO),
            read(slow, 0, payloads.clone(), Duration::from_millis(2))
        )
    })
    .await;
    assert!(quick.is_sharing());
    let stalled = read(stalled, 0, payloads.clone(), Duration::ZERO).await;
    assert!(!stalled.is_sharing());
    // Nobody keeps a large message for the others.
    let large = vec![b"before".to_vec(), vec![7; 6 << 20], b"behind".to_vec()];
    bench.produce(0, large.iter().map(Vec::as_slice));
    for source in [quick, slow, stalled] {
        assert!(!read(source, 200, large.clone(), Duration::ZERO).await.is_sharing());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_shares_meets_the_errors_that_it_would_meet_alone() {
    let Some(bench) = Bench::new("sharing_lost", 1).await else { return };
    bench.produce(0, (0..20).map(|_| &b"x"[..]));
    let mut sources = sharing(&bench.topic(), 20, 2).await;
    bench.delete().await;
    for source in &mut sources {
        lost(&failure(40, source).await, "the topic was deleted");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_without_value_is_corrupt() {
    let Some(bench) = Bench::new("null", 1).await else { return };
    let producer = bench.producer(&[]);
    producer
        .send(BaseRecord::<[u8], [u8]>::to(&bench.name).partition(0).key(&b"k"[..]))
        .map_err(|(e, _)| e)
        .unwrap();
    producer.flush(Duration::from_secs(10)).unwrap();
    let error = failure(10, &mut bench.topic().open(Offset(0)).await.unwrap()).await;
    assert_eq!(error.kind, ErrorKind::CorruptMessage);
    assert_eq!(error.object.unwrap(), format!("topic {} offset 0", bench.name));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn holes_in_the_offsets_are_counted() {
    let Some(bench) = Bench::new("holes", 1).await else { return };
    let producer = bench.producer(&[("transactional.id", &bench.name)]);
    producer.init_transactions(Duration::from_secs(30)).unwrap();
    for n in 0..3u8 {
        producer.begin_transaction().unwrap();
        producer
            .send(BaseRecord::<(), [u8]>::to(&bench.name).partition(0).payload(&[n]))
            .map_err(|(e, _)| e)
            .unwrap();
        producer.commit_transaction(Duration::from_secs(30)).unwrap();
    }
    let topic = bench.topic();
    let mut source = topic.open(Offset(0)).await.unwrap();
    for n in 0..3 {
        assert_eq!(message(&mut source).await.offset, Offset(n * 2));
    }
    assert!(matches!(within(5, source.next()).await.unwrap(), Incoming::CaughtUp));
    assert_eq!((source.gaps(), source.next_offset()), (2, Offset(5)));
    assert_eq!(topic.end_offset().await.unwrap(), Offset(6));
}

fn transaction(commit_ts: u64) -> Vec<u8> {
    let table = Table::new("s", "t", &[("id", "int"), ("v", "varchar")], &["id"]);
    let row = [Value::Int(commit_ts as i64), Value::Text(b"some text to fill the row a little")];
    Binlog::dml(commit_ts, vec![table.insert(&row)]).encode_to_vec()
}

/// The log has a repeated range, swapped neighbours, a message of somebody else, and 60,000 messages.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_timestamp_is_found_in_a_log_out_of_order() {
    let Some(bench) = Bench::new("find", 1).await else { return };
    let mut stamps: Vec<u64> = (1..=30_000).map(|n| n * 10).collect();
    stamps.extend((20_000..=50_000).map(|n| n * 10));
    for place in (0..stamps.len() - 60).step_by(1000) {
        stamps.swap(place, place + 50);
    }
    let mut payloads: Vec<Vec<u8>> = stamps.iter().map(|ts| transaction(*ts)).collect();
    payloads.insert(30_000, b"not of Drainer".to_vec());
    stamps.insert(30_000, 0);
    bench.produce(0, payloads.iter().map(Vec::as_slice));
    let topic = bench.topic();
    for tso in
        [0, 5, 15, 100_000, 150_003, 200_000, 250_001, 299_990, 300_000, 400_000, 499_999, 500_000, 9_999_999]
    {
        let began = Instant::now();
        let start = within(60, topic.find_start(Start::After(Tso(tso)))).await.unwrap();
        let wanted: std::collections::BTreeSet<u64> = stamps.iter().copied().filter(|ts| *ts > tso).collect();
        let there: std::collections::BTreeSet<u64> =
            stamps[start.0 as usize..].iter().copied().filter(|ts| *ts > tso).collect();
        assert!(wanted == there, "start {start} for {tso} lacks transactions");
        let skipped = stamps[start.0 as usize..].iter().position(|ts| *ts > tso).unwrap_or(0);
        println!("after {tso}: offset {start}, {skipped} to skip, {:?}", began.elapsed());
        assert!(skipped <= 20_480);
    }
    bench.trim(100).await;
    lost(
        &topic.find_start(Start::After(Tso(500))).await.unwrap_err(),
        "begins at offset 100 with changes after 500",
    );
    assert!(topic.find_start(Start::After(Tso(2000))).await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_window_of_seen_transactions_is_read_back() {
    let Some(bench) = Bench::new("back", 1).await else { return };
    let payloads: Vec<Vec<u8>> = (1..=20_000).map(transaction).collect();
    let size = payloads.iter().map(|payload| payload.len() as u64).max().unwrap();
    bench.produce(0, payloads.iter().map(Vec::as_slice));
    let topic = bench.topic();
    let limits = Limits { payload_bytes: 12_000 * size, entries: 1 << 20 };
    let began = Instant::now();
    let back = topic.read_back(Offset(15_000), Offset(0), limits).await.unwrap();
    println!("read back {} messages in {:?}", back.messages.len(), began.elapsed());
    assert!(back.messages.len() >= 12_000 && back.messages.len() < 15_000 && !back.complete);
    assert_eq!(back.messages.last().unwrap().offset, Offset(14_999));
    assert_eq!(back.unreadable, 0);
    let set = SeenSet::rebuilt(Tso(0), limits, back.messages.clone(), back.complete);
    let of = |ts: u64| *back.messages.iter().find(|seen| seen.commit_ts == Tso(ts)).unwrap();
    assert!(matches!(set.judge(&of(15_000)), Verdict::Duplicate { same_bytes: true, .. }));
    assert!(matches!(set.judge(&of(back.messages[0].commit_ts.0)), Verdict::BelowWindow { .. }));
    let whole = topic.read_back(Offset(15_000), Offset(14_000), Limits::default()).await.unwrap();
    assert_eq!((whole.messages.len(), whole.complete), (1000, true));
    let nothing = topic.read_back(Offset(14_000), Offset(14_000), Limits::default()).await.unwrap();
    assert!(nothing.messages.is_empty() && nothing.complete);
    lost(&topic.read_back(Offset(20_001), Offset(0), limits).await.unwrap_err(), "beyond the end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_is_not_drainers_has_no_timestamps() {
    let Some(bench) = Bench::new("strange", 1).await else { return };
    bench.produce(0, (0..10_000).map(|_| &b"{\"not\": \"protobuf\"}"[..]));
    let error = bench.topic().find_start(Start::After(Tso(5))).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::CorruptMessage, "{error}");
}
