//! What a connection is, without I/O: the settings of an endpoint, how its secret may change, and when it must be sent again.

use secrecy::SecretString;
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::openapi::schema::{ObjectBuilder, OneOfBuilder, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use super::fault::Fault;
use crate::model::{Dialect, KafkaEndpoint, MysqlEndpoint, Sasl, Tls, TlsMode};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum MysqlKind {
    /// The source.
    Tidb,
    /// AnalyticDB for MySQL 3.0
    Adb,
    /// MySQL, MariaDB, TiDB or PolarDB as a target
    Mysql,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum KafkaKind {
    Kafka,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub enum SaslMechanism {
    #[serde(rename = "PLAIN")]
    Plain,
    #[serde(rename = "SCRAM-SHA-256")]
    ScramSha256,
    #[serde(rename = "SCRAM-SHA-512")]
    ScramSha512,
}

impl SaslMechanism {
    fn as_str(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
        }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TlsSettings {
    pub mode: TlsMode,
    /// PEM of the authority; null = the built-in public authorities.
    pub ca: Option<String>,
}

/// A secret as a request writes it: absent or `{"set": true}` keeps, a string sets, null clears.
#[derive(Debug, Clone, Default)]
pub enum SecretChange {
    #[default]
    Keep,
    Clear,
    Set(SecretString),
}

impl<'de> Deserialize<'de> for SecretChange {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Text(String),
            Keep {
                #[serde(rename = "set")]
                _set: bool,
            },
        }
        Ok(match Option::<Written>::deserialize(deserializer)? {
            None => Self::Clear,
            Some(Written::Text(text)) => Self::Set(SecretString::from(text)),
            Some(Written::Keep { .. }) => Self::Keep,
        })
    }
}

impl PartialSchema for SecretChange {
    fn schema() -> RefOr<Schema> {
        OneOfBuilder::new()
            .item(ObjectBuilder::new().schema_type(Type::String).build())
            .item(ObjectBuilder::new().schema_type(Type::Null).build())
            .item(
                ObjectBuilder::new()
                    .property("set", ObjectBuilder::new().schema_type(Type::Boolean).build())
                    .required("set")
                    .additional_properties(Some(utoipa::openapi::schema::AdditionalProperties::FreeForm(
                        false,
                    )))
                    .build(),
            )
            .description(Some("A string sets, null clears, `{\"set\": true}` keeps; absent keeps too."))
            .into()
    }
}

impl ToSchema for SecretChange {}

/// TiDB, AnalyticDB or another MySQL-protocol server.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MysqlConnectionInput {
    pub kind: MysqlKind,
    #[schema(min_length = 1, max_length = 255, pattern = r"^\S+$")]
    pub host: String,
    /// Default 4000 for tidb, else 3306.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 65535)]
    pub port: Option<u16>,
    #[schema(min_length = 1, max_length = 255)]
    pub user: String,
    #[serde(default)]
    pub password: SecretChange,
    #[serde(default)]
    pub tls: TlsSettings,
}

#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SaslInput {
    pub mechanism: SaslMechanism,
    #[schema(min_length = 1, max_length = 255)]
    pub user: String,
    #[serde(default)]
    pub password: SecretChange,
}

#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct KafkaConnectionInput {
    pub kind: KafkaKind,
    /// `host:port`
    #[schema(min_items = 1, max_items = 64)]
    pub brokers: Vec<String>,
    #[serde(default)]
    pub sasl: Option<SaslInput>,
    #[serde(default)]
    pub tls: TlsSettings,
}

/// A connection as a request writes it.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum ConnectionInput {
    Mysql(MysqlConnectionInput),
    Kafka(KafkaConnectionInput),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MysqlSettings {
    pub kind: MysqlKind,
    pub host: String,
    pub port: u16,
    pub user: String,
    pub tls: TlsSettings,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SaslSettings {
    pub mechanism: SaslMechanism,
    pub user: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KafkaSettings {
    pub kind: KafkaKind,
    pub brokers: Vec<String>,
    pub sasl: Option<SaslSettings>,
    pub tls: TlsSettings,
}

/// A connection without its secret, as the store keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ConnectionSettings {
    Mysql(MysqlSettings),
    Kafka(KafkaSettings),
}

impl ConnectionInput {
    /// Settings and what happens to the secret. Kafka without SASL has none: what was kept is cleared.
    pub fn into_parts(self) -> Result<(ConnectionSettings, SecretChange), Vec<Fault>> {
        let mut faults = Vec::new();
        let parts = match self {
            Self::Mysql(input) => {
                check_tls(&input.tls, &mut faults);
                let port = input.port.unwrap_or(if input.kind == MysqlKind::Tidb { 4000 } else { 3306 });
                (
                    ConnectionSettings::Mysql(MysqlSettings {
                        kind: input.kind,
                        host: input.host,
                        port,
                        user: input.user,
                        tls: input.tls,
                    }),
                    input.password,
                )
            }
            Self::Kafka(input) => {
                check_tls(&input.tls, &mut faults);
                for (index, broker) in input.brokers.iter().enumerate() {
                    let valid = broker.rsplit_once(':').is_some_and(|(host, port)| {
                        !host.is_empty()
                            && !host.contains(|letter: char| {
                                letter.is_whitespace() || matches!(letter, ',' | '/')
                            })
                            && port.parse::<u16>().is_ok_and(|port| port != 0)
                    });
                    if !valid {
                        let detail = format!("\"{broker}\" is not host:port");
                        faults.push(Fault::new(format!("/brokers/{index}"), "invalid", detail));
                    }
                }
                let (sasl, secret) = match input.sasl {
                    None => (None, SecretChange::Clear),
                    Some(sasl) => {
                        (Some(SaslSettings { mechanism: sasl.mechanism, user: sasl.user }), sasl.password)
                    }
                };
                let settings =
                    KafkaSettings { kind: input.kind, brokers: input.brokers, sasl, tls: input.tls };
                (ConnectionSettings::Kafka(settings), secret)
            }
        };
        if faults.is_empty() { Ok(parts) } else { Err(faults) }
    }
}

fn check_tls(tls: &TlsSettings, faults: &mut Vec<Fault>) {
    if let Some(ca) = &tls.ca
        && !ca.contains("-----BEGIN CERTIFICATE-----")
    {
        faults.push(Fault::new(
            "/tls/ca",
            "invalid",
            "must be a PEM certificate (-----BEGIN CERTIFICATE-----)",
        ));
    }
}

fn strength(mode: TlsMode) -> u8 {
    match mode {
        TlsMode::Disabled => 0,
        TlsMode::Required => 1,
        TlsMode::VerifyCa => 2,
        TlsMode::VerifyFull => 3,
    }
}

impl ConnectionSettings {
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Mysql(settings) => match settings.kind {
                MysqlKind::Tidb => "tidb",
                MysqlKind::Adb => "adb",
                MysqlKind::Mysql => "mysql",
            },
            Self::Kafka(_) => "kafka",
        }
    }

    /// Where the secret stands in a request.
    pub fn secret_pointer(&self) -> &'static str {
        match self {
            Self::Mysql(_) => "/password",
            Self::Kafka(_) => "/sasl/password",
        }
    }

    /// True when it cannot work without a secret.
    pub fn needs_secret(&self) -> bool {
        matches!(self, Self::Kafka(KafkaSettings { sasl: Some(_), .. }))
    }

    fn tls(&self) -> &TlsSettings {
        match self {
            Self::Mysql(settings) => &settings.tls,
            Self::Kafka(settings) => &settings.tls,
        }
    }

    /// What in `new` would send the kept secret somewhere else, or over a weaker line: such a change must bring the secret
    /// along, or whoever may edit a connection could read its password. None = the secret may be kept.
    pub fn exposes_secret(&self, new: &Self) -> Option<&'static str> {
        let moved = match (self, new) {
            (Self::Mysql(old), Self::Mysql(new)) => {
                if old.host != new.host || old.port != new.port {
                    Some("host or port")
                } else if old.user != new.user {
                    Some("user")
                } else {
                    None
                }
            }
            (Self::Kafka(old), Self::Kafka(new)) => {
                let user = |settings: &KafkaSettings| settings.sasl.as_ref().map(|sasl| sasl.user.clone());
                let plain = |settings: &KafkaSettings| {
                    settings.sasl.as_ref().is_some_and(|sasl| sasl.mechanism == SaslMechanism::Plain)
                };
                if new.brokers.iter().any(|broker| !old.brokers.contains(broker)) {
                    Some("brokers")
                } else if user(old) != user(new) {
                    Some("user")
                } else if plain(new) && !plain(old) {
                    Some("the SASL mechanism to one that sends the password itself")
                } else {
                    None
                }
            }
            _ => Some("kind"),
        };
        let weaker = strength(new.tls().mode) < strength(self.tls().mode) || new.tls().ca != self.tls().ca;
        moved.or(weaker.then_some("TLS"))
    }

    pub fn dialect(&self) -> Option<Dialect> {
        match self {
            Self::Mysql(MysqlSettings { kind: MysqlKind::Adb, .. }) => Some(Dialect::Adb),
            Self::Mysql(MysqlSettings { kind: MysqlKind::Mysql, .. }) => Some(Dialect::Mysql),
            _ => None,
        }
    }

    pub fn mysql_endpoint(&self, secret: Option<SecretString>) -> Option<MysqlEndpoint> {
        let Self::Mysql(settings) = self else { return None };
        Some(MysqlEndpoint {
            host: settings.host.clone(),
            port: settings.port,
            user: settings.user.clone(),
            password: secret.into(),
            tls: Tls { mode: settings.tls.mode, ca: settings.tls.ca.clone() },
        })
    }

    pub fn kafka_endpoint(&self, secret: Option<SecretString>) -> Option<KafkaEndpoint> {
        let Self::Kafka(settings) = self else { return None };
        let sasl = settings.sasl.as_ref().map(|sasl| Sasl {
            mechanism: sasl.mechanism.as_str().to_owned(),
            user: sasl.user.clone(),
            password: secret.unwrap_or_else(|| SecretString::from(String::new())),
        });
        Some(KafkaEndpoint {
            brokers: settings.brokers.clone(),
            sasl,
            tls: Tls { mode: settings.tls.mode, ca: settings.tls.ca.clone() },
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn settings(body: serde_json::Value) -> ConnectionSettings {
        serde_json::from_value::<ConnectionInput>(body).unwrap().into_parts().unwrap().0
    }

    #[test]
    fn a_kept_secret_never_moves_to_another_place_or_a_weaker_line() {
        let base = json!({"kind": "mysql", "host": "a", "user": "u", "tls": {"mode": "required"}});
        let old = settings(base.clone());
        for (field, value, expected) in [
            ("host", json!("b"), Some("host or port")),
            ("port", json!(3307), Some("host or port")),
            ("user", json!("v"), Some("user")),
            ("tls", json!({"mode": "disabled"}), Some("TLS")),
            ("tls", json!({"mode": "verify_full"}), None),
            ("kind", json!("adb"), None),
            ("port", json!(3306), None),
        ] {
            let mut body = base.clone();
            body[field] = value.clone();
            assert_eq!(old.exposes_secret(&settings(body)), expected, "{field} {value}");
        }
        let kafka = |brokers: serde_json::Value, mechanism: &str| {
            settings(
                json!({"kind": "kafka", "brokers": brokers, "sasl": {"mechanism": mechanism, "user": "u"}}),
            )
        };
        let old = kafka(json!(["a:1", "b:1"]), "SCRAM-SHA-256");
        assert_eq!(old.exposes_secret(&kafka(json!(["a:1"]), "SCRAM-SHA-512")), None);
        assert_eq!(old.exposes_secret(&kafka(json!(["a:1", "c:1"]), "SCRAM-SHA-256")), Some("brokers"));
        assert!(old.exposes_secret(&kafka(json!(["a:1"]), "PLAIN")).is_some());
    }

    #[test]
    fn a_secret_is_kept_set_or_cleared() {
        let change = |body: serde_json::Value| {
            let mut full = json!({"kind": "tidb", "host": "h", "user": "u"});
            full.as_object_mut().unwrap().extend(body.as_object().unwrap().clone());
            serde_json::from_value::<ConnectionInput>(full).unwrap().into_parts().unwrap().1
        };
        assert!(matches!(change(json!({})), SecretChange::Keep));
        assert!(matches!(change(json!({"password": {"set": true}})), SecretChange::Keep));
        assert!(matches!(change(json!({"password": null})), SecretChange::Clear));
        assert!(matches!(change(json!({"password": "x"})), SecretChange::Set(_)));
    }
}
