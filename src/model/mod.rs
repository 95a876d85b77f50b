//! Plain data that every part of the data plane speaks: names, schemas, values, positions.
//! Nothing here does I/O.

pub mod endpoint;
pub mod lossy;
pub mod position;
pub mod schema;
pub mod value;
pub mod zone;

pub use endpoint::{Dialect, KafkaEndpoint, MysqlEndpoint, Password, Sasl, Tls, TlsMode};
pub use lossy::{LossyCount, LossyCounts, LossyRule};
pub use position::{Epoch, Offset, Position, TaskId, Tso};
pub use schema::{
    Column, ColumnDefault, ColumnType, Generated, Key, KeyKind, KeyPart, Partitioning, Table, TableName,
    TypeName,
};
pub use value::Value;
pub use zone::Zone;
