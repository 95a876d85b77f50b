//! librdkafka's settings for a Kafka connection, shared by the reader of the stream, prechecks and the catalog.
//!
//! Only what every client needs is set here; who consumes adds its own fetch sizes and group.

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use secrecy::ExposeSecret;

use crate::model::{KafkaEndpoint, TlsMode};

/// Largest answer taken from a broker: one Drainer message is up to 1 GiB (source-drainer.md 2.4), and librdkafka's default of
/// 100 MB ends in reconnects without end.
const RECEIVE_MAX_BYTES: &str = "1200000000";

/// Settings to reach `endpoint`. Nothing is checked here: creating a client from them fails on a malformed certificate.
pub fn client_config(endpoint: &KafkaEndpoint) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", endpoint.brokers.join(","))
        .set("client.id", "tidegate")
        .set("broker.address.family", "any")
        .set("socket.keepalive.enable", "true")
        // A fetch of 1 GiB takes its time.
        .set("socket.timeout.ms", "300000")
        .set("receive.message.max.bytes", RECEIVE_MAX_BYTES)
        // A misspelt topic must be an error, never a new topic.
        .set("allow.auto.create.topics", "false")
        // Failures come back as errors of calls; librdkafka's own lines would tell them a second time.
        .set_log_level(RDKafkaLogLevel::Emerg);
    config.set("security.protocol", protocol(endpoint));
    if let Some(sasl) = &endpoint.sasl {
        config
            .set("sasl.mechanism", &sasl.mechanism)
            .set("sasl.username", &sasl.user)
            .set("sasl.password", sasl.password.expose_secret());
    }
    if endpoint.tls.mode != TlsMode::Disabled {
        let (certificate, host_name) = match endpoint.tls.mode {
            TlsMode::Disabled | TlsMode::Required => ("false", "none"),
            TlsMode::VerifyCa => ("true", "none"),
            TlsMode::VerifyFull => ("true", "https"),
        };
        config
            .set("enable.ssl.certificate.verification", certificate)
            .set("ssl.endpoint.identification.algorithm", host_name);
        match &endpoint.tls.ca {
            Some(pem) => config.set("ssl.ca.pem", pem),
            None => config.set("ssl.ca.location", "probe"),
        };
    }
    config
}

fn protocol(endpoint: &KafkaEndpoint) -> &'static str {
    match (endpoint.tls.mode, &endpoint.sasl) {
        (TlsMode::Disabled, None) => "plaintext",
        (TlsMode::Disabled, Some(_)) => "sasl_plaintext",
        (_, None) => "ssl",
        (_, Some(_)) => "sasl_ssl",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Sasl, Tls};

    fn endpoint(mode: TlsMode, ca: Option<&str>, sasl: bool) -> KafkaEndpoint {
        KafkaEndpoint {
            brokers: vec!["a:9092".to_owned(), "[::1]:9093".to_owned()],
            sasl: sasl.then(|| Sasl {
                mechanism: "SCRAM-SHA-256".to_owned(),
                user: "sync".to_owned(),
                password: "secret".into(),
            }),
            tls: Tls { mode, ca: ca.map(str::to_owned) },
        }
    }

    #[test]
    fn protocol_follows_tls_and_sasl() {
        let of = |mode, sasl| protocol(&endpoint(mode, None, sasl));
        assert_eq!(of(TlsMode::Disabled, false), "plaintext");
        assert_eq!(of(TlsMode::Disabled, true), "sasl_plaintext");
        assert_eq!(of(TlsMode::Required, false), "ssl");
        assert_eq!(of(TlsMode::VerifyFull, true), "sasl_ssl");
    }

    #[test]
    fn each_tls_mode_checks_what_its_name_says() {
        let of = |mode| {
            let config = client_config(&endpoint(mode, Some("PEM"), false));
            let get = |key: &str| config.get(key).map(str::to_owned);
            (
                get("enable.ssl.certificate.verification"),
                get("ssl.endpoint.identification.algorithm"),
                get("ssl.ca.pem"),
            )
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(of(TlsMode::Disabled), (None, None, None));
        assert_eq!(of(TlsMode::Required), (some("false"), some("none"), some("PEM")));
        assert_eq!(of(TlsMode::VerifyCa), (some("true"), some("none"), some("PEM")));
        assert_eq!(of(TlsMode::VerifyFull), (some("true"), some("https"), some("PEM")));
    }

    #[test]
    fn librdkafka_takes_every_setting() {
        for mode in [TlsMode::Disabled, TlsMode::Required, TlsMode::VerifyCa, TlsMode::VerifyFull] {
            for sasl in [false, true] {
                client_config(&endpoint(mode, None, sasl)).create_native_config().unwrap();
            }
        }
    }

    #[test]
    fn the_password_is_not_printed() {
        let printed = format!("{:?}", client_config(&endpoint(TlsMode::Disabled, None, true)));
        assert!(!printed.contains("secret"), "{printed}");
    }
}
