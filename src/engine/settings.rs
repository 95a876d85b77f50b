//! What a run works with: its spec and its endpoints. The supervisor hands newer ones to a running worker, which takes them up
//! between two batches and says so (`applied_spec_version`).

use std::sync::Arc;

use super::endpoints::Endpoints;
use crate::task::spec::Spec;

#[derive(Debug, Clone)]
pub struct Settings {
    pub spec: Arc<Spec>,
    pub spec_version: i64,
    pub endpoints: Endpoints,
    /// Counts what was handed over.
    pub serial: u64,
}

impl Settings {
    /// The newer settings of the same run. Where only a password has changed the endpoints stay what they are: whoever holds one
    /// logs in with the newer password from now on.
    pub fn followed_by(&self, spec: Arc<Spec>, spec_version: i64, mut endpoints: Endpoints) -> Self {
        if let (Some(old), Some(new)) = (&self.endpoints.source, &mut endpoints.source)
            && old.is_same_place(new)
        {
            old.password.replace(&new.password);
            new.password = old.password.clone();
        }
        let (old, new) = (&self.endpoints.target, &mut endpoints.target);
        if old.is_same_place(new) {
            old.password.replace(&new.password);
            new.password = old.password.clone();
        }
        Self { spec, spec_version, endpoints, serial: self.serial + 1 }
    }

    /// Whether a run must begin again at what is durable to work with the newer ones: it speaks to another place.
    pub fn moves_to(&self, newer: &Self) -> bool {
        let (old, new) = (&self.endpoints, &newer.endpoints);
        let source = match (&old.source, &new.source) {
            (Some(old), Some(new)) => old.is_same_place(new),
            (None, None) => true,
            _ => false,
        };
        // A client of Kafka keeps the password that it was made with.
        let kafka = match (&old.kafka, &new.kafka) {
            (Some(old), Some(new)) => old.is_same(new),
            (None, None) => true,
            _ => false,
        };
        !(source && kafka && old.target.is_same_place(&new.target) && old.dialect == new.dialect)
            || self.spec.source != newer.spec.source
    }

    /// Whether a full sync under way works otherwise with the newer ones.
    pub fn changes_copy(&self, newer: &Self) -> bool {
        let (old, new) = (&self.spec, &newer.spec);
        self.moves_to(newer)
            || old.tuning != new.tuning
            || old.errors != new.errors
            || old.objects != new.objects
    }
}

#[cfg(test)]
mod tests {
    use secrecy::{ExposeSecret, SecretString};
    use serde_json::json;

    use super::*;
    use crate::model::{Dialect, KafkaEndpoint, MysqlEndpoint, Sasl, Tls};

    fn mysql(host: &str, password: &str) -> MysqlEndpoint {
        MysqlEndpoint {
            host: host.to_owned(),
            port: 1,
            user: "u".to_owned(),
            password: Some(SecretString::from(password)).into(),
            tls: Tls::default(),
        }
    }

    fn endpoints(target: MysqlEndpoint, kafka: &str) -> Endpoints {
        let sasl =
            Sasl { mechanism: "PLAIN".to_owned(), user: "u".to_owned(), password: SecretString::from(kafka) };
        Endpoints {
            source: Some(mysql("s", "x")),
            kafka: Some(KafkaEndpoint {
                brokers: vec!["k:1".to_owned()],
                sasl: Some(sasl),
                tls: Tls::default(),
            }),
            target,
            dialect: Dialect::Mysql,
            named: Vec::new(),
        }
    }

    #[test]
    fn a_password_reaches_who_holds_the_endpoint_and_a_place_is_another_run() {
        let spec = || -> Arc<Spec> {
            let body = json!({"name": "t", "source": {}, "target": "d", "objects": {"include": ["a.b"]}});
            Arc::new(serde_json::from_value(body).unwrap())
        };
        let first = Settings {
            spec: spec(),
            spec_version: 1,
            endpoints: endpoints(mysql("a", "old"), "k"),
            serial: 0,
        };
        let held = first.endpoints.target.clone();
        let second = first.followed_by(spec(), 2, endpoints(mysql("a", "new"), "k"));
        assert_eq!(held.password.get().unwrap().expose_secret(), "new");
        assert!(!first.moves_to(&second));
        assert_eq!((second.serial, second.spec_version), (1, 2));
        let third = second.followed_by(spec(), 2, endpoints(mysql("b", "other"), "k"));
        assert_eq!(held.password.get().unwrap().expose_secret(), "new", "it does not go to another host");
        assert!(second.moves_to(&third));
        let fourth = second.followed_by(spec(), 2, endpoints(mysql("a", "new"), "k2"));
        assert!(second.moves_to(&fourth), "a client of Kafka keeps its password");
    }
}
