//! The figures of a task that are kept over time, and one sample of them.
//!
//! The list below is the whole list: the API, its documentation and docs/metrics.md are made from it. Numbers are part of the
//! store's format: they are never given to another figure.

/// How several samples become one when time steps are widened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Aggregate {
    Max,
    Min,
    /// Weighted by time.
    Mean,
    Sum,
    /// The newest.
    Last,
}

macro_rules! figures {
    ($($number:literal $variant:ident $name:literal $unit:literal $aggregate:ident $about:literal;)+) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Figure {
            $($variant),+
        }

        impl Figure {
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }

            pub fn unit(self) -> &'static str {
                match self { $(Self::$variant => $unit),+ }
            }

            pub fn aggregate(self) -> Aggregate {
                match self { $(Self::$variant => Aggregate::$aggregate),+ }
            }

            /// What it tells, in words.
            pub fn about(self) -> &'static str {
                match self { $(Self::$variant => $about),+ }
            }

            fn number(self) -> u8 {
                match self { $(Self::$variant => $number),+ }
            }

            fn of_number(number: u8) -> Option<Self> {
                match number { $($number => Some(Self::$variant),)+ _ => None }
            }
        }
    };
}

figures! {
    1 Running "running" "ratio" Mean "1 while a run works on the task, else 0; over a step the share of time";
    2 Lag "lag_ms" "ms" Max "now minus the source time up to which the target is complete";
    3 Rows "rows_per_second" "rows/s" Mean "rows copied by full sync";
    4 Bytes "bytes_per_second" "bytes/s" Mean "bytes copied by full sync";
    5 Changes "changes_per_second" "changes/s" Mean "row changes of the stream that reached the target";
    6 Transactions "transactions_per_second" "transactions/s" Mean "transactions of the stream that reached the target";
    7 StreamBytes "stream_bytes_per_second" "bytes/s" Mean "bytes of topic messages that reached the target";
    8 Behind "messages_behind" "messages" Max "messages of the topic that are not applied yet";
    9 Spare "messages_spare" "messages" Min "messages that the topic may drop before the task's position is lost";
    10 Percent "percent" "percent" Last "of full sync";
    11 RowsCopied "rows_copied" "rows" Last "by full sync so far";
    12 RowsEstimated "rows_estimated" "rows" Last "that full sync expects to copy";
    13 ChangesApplied "changes_applied" "changes" Last "of the stream in this run so far";
    14 Retries "retries" "retries" Sum "begun in the step";
    15 Duplicates "duplicates_skipped" "transactions" Sum "sent again by a Drainer and recognised, in the step";
    16 Late "late_transactions" "transactions" Sum "that came after newer ones, in the step";
    17 Ddl "ddl_applied" "statements" Sum "DDL that reached the target in the step";
    18 Memory "memory_bytes" "bytes" Max "rows and changes that wait in memory for the target";
    19 Batches "batches_per_second" "batches/s" Mean "batches (statements of full sync) that the target acknowledged";
    20 BatchMean "batch_ms_mean" "ms" Mean "time of a batch from sending to acknowledgement";
    21 BatchMax "batch_ms_max" "ms" Max "the slowest batch";
    22 Tables "tables" "tables" Last "known to the task";
    23 TablesAside "tables_aside" "tables" Last "that do not follow: stopped, paused, skipped or being copied again";
    24 TablesStopped "tables_stopped" "tables" Last "stopped by an error of their own";
    25 DeadLetters "dead_letters" "changes" Last "set aside and still open";
    26 Reading "time_reading" "ratio" Mean "share of time spent waiting for rows or messages of the source";
    27 Decoding "time_decoding" "ratio" Mean "share of time spent reading messages and folding their rows";
    28 Blocked "time_blocked" "ratio" Mean "share of time spent waiting for the target with all buffers full";
    29 InDdl "time_ddl" "ratio" Mean "share of time that DDL held up the stream";
    30 Throttled "time_throttled" "ratio" Mean "share of time held back by a throttle";
    31 CheckpointAge "checkpoint_age_ms" "ms" Max "since the checkpoint was saved last; an idle task saves it about once a minute";
    32 RetentionLeft "retention_left_ms" "ms" Min "until the topic drops the message that the task needs next; only while messages wait there";
}

impl Figure {
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|figure| figure.name() == name)
    }
}

/// The figures of one task at one moment; those that are unknown are not in it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sample(pub Vec<(Figure, f64)>);

/// Values are kept to a thousandth.
const SCALE: f64 = 1000.0;

impl Sample {
    pub fn push(&mut self, figure: Figure, value: f64) {
        if value.is_finite() {
            self.0.push((figure, value));
        }
    }

    pub fn push_known(&mut self, figure: Figure, value: Option<f64>) {
        if let Some(value) = value {
            self.push(figure, value);
        }
    }

    /// Figure number, then the value in thousandths as a zigzag varint: mostly two to four bytes a figure.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.0.len() * 4);
        for (figure, value) in &self.0 {
            out.push(figure.number());
            let scaled = (value * SCALE).round() as i64;
            let mut rest = ((scaled << 1) ^ (scaled >> 63)).cast_unsigned();
            while rest >= 0x80 {
                out.push(rest as u8 | 0x80);
                rest >>= 7;
            }
            out.push(rest as u8);
        }
        out
    }

    /// What [`Sample::encode`] wrote. Figures of another version that are not known are left out; a broken rest too.
    pub fn decode(mut bytes: &[u8]) -> Self {
        let mut sample = Self::default();
        while let Some((number, rest)) = bytes.split_first() {
            bytes = rest;
            let (mut value, mut shift) = (0_u64, 0_u32);
            loop {
                let Some((byte, rest)) = bytes.split_first() else { return sample };
                bytes = rest;
                if shift > 63 {
                    return sample;
                }
                value |= u64::from(byte & 0x7f) << shift;
                shift += 7;
                if byte & 0x80 == 0 {
                    break;
                }
            }
            let scaled = (value >> 1).cast_signed() ^ -(value & 1).cast_signed();
            if let Some(figure) = Figure::of_number(*number) {
                sample.0.push((figure, scaled as f64 / SCALE));
            }
        }
        sample
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_are_unique() {
        for figure in Figure::ALL {
            assert_eq!(Figure::of_number(figure.number()), Some(*figure));
            assert_eq!(Figure::parse(figure.name()), Some(*figure));
        }
    }

    #[test]
    fn samples_are_read_as_they_were_written() {
        let values = [0.0, 1.0, -1.0, 0.001, 12.5, 86_400_000.0, 9_007_199_254_740.0, -250.25];
        let sample = Sample(Figure::ALL.iter().copied().zip(values).collect());
        assert_eq!(Sample::decode(&sample.encode()), sample);
        // An idle task takes two bytes a figure.
        let idle = Sample(Figure::ALL.iter().map(|figure| (*figure, 0.0)).collect());
        assert_eq!(idle.encode().len(), 2 * Figure::ALL.len());
        // A figure of a later version is passed over, a cut-off end is no panic.
        let mut bytes = vec![250, 0x80, 1];
        bytes.extend(Sample(vec![(Figure::Lag, 5.0)]).encode());
        assert_eq!(Sample::decode(&bytes).0, [(Figure::Lag, 5.0)]);
        for cut in 0..bytes.len() {
            Sample::decode(&bytes[..cut]);
        }
        Sample::decode(&[2, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255]);
    }
}
