//! How one table of a task stands, and what may be asked of it. Written down by the worker with the table's entry in the
//! catalog, so that it follows the table through renames; commands are asked for by the API and carried out by the worker.

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::model::TableName;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Standing {
    /// Its rows go to the target in their place in the stream.
    #[default]
    Following,
    /// An error that concerns this table alone (`errors.table = stop_table`). Its rows are passed over.
    Stopped { error: Error },
    /// By command. Its rows are passed over, so it comes back by a resync.
    Paused,
    /// By command: the task leaves it out.
    Skipped,
    /// To be copied anew, beside the stream; until then its rows are passed over.
    Resync {
        reason: String,
        /// Why the last try came to nothing.
        #[serde(default)]
        error: Option<Error>,
    },
    /// No longer selected. Its data stays on the target, at `place`; None when none of it is there.
    Removed { place: Option<TableName> },
    /// The new copy is in step with the checkpoint and is about to take the table's place.
    Swapping { shadow: TableName },
}

impl Standing {
    pub fn resync(reason: impl Into<String>) -> Self {
        Self::Resync { reason: reason.into(), error: None }
    }

    pub fn is_following(&self) -> bool {
        *self == Self::Following
    }

    pub fn is_resync(&self) -> bool {
        matches!(self, Self::Resync { .. })
    }

    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Following => "following",
            Self::Stopped { .. } => "stopped",
            Self::Paused => "paused",
            Self::Skipped => "skipped",
            Self::Resync { .. } => "resync",
            Self::Removed { .. } => "removed",
            Self::Swapping { .. } => "swapping",
        }
    }
}

/// What can be asked of single tables while the others go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableCommand {
    Pause,
    Resume,
    Resync,
    Skip,
}

impl TableCommand {
    pub const ALL: &[Self] = &[Self::Pause, Self::Resume, Self::Resync, Self::Skip];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Resync => "resync",
            Self::Skip => "skip",
        }
    }

    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|command| command.as_str() == word)
    }

    /// True when `standing` is what the command leads to.
    pub fn is_reached(self, standing: &Standing) -> bool {
        match self {
            Self::Pause => *standing == Standing::Paused,
            Self::Skip => *standing == Standing::Skipped,
            Self::Resume | Self::Resync => standing.is_following(),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TableDecision {
    /// The table's state forbids it.
    Refused,
    /// It is so already, or on its way.
    Nothing,
    Become(Standing),
}

/// The transition table.
pub fn decide_table(command: TableCommand, standing: &Standing) -> TableDecision {
    use TableCommand::{Pause, Resume, Resync, Skip};
    use TableDecision::{Become, Nothing, Refused};
    match (command, standing) {
        // It is none of the task's.
        (_, Standing::Removed { .. }) => Refused,
        (Pause, Standing::Following | Standing::Stopped { .. } | Standing::Resync { .. }) => {
            Become(Standing::Paused)
        }
        (Pause, Standing::Paused) | (Skip, Standing::Skipped) => Nothing,
        // The rows between are nowhere: only a copy brings them.
        (Resume, Standing::Paused | Standing::Skipped) => {
            Become(Standing::resync("resumed: its rows were passed over"))
        }
        (Resume, Standing::Following | Standing::Resync { .. } | Standing::Swapping { .. }) => Nothing,
        (Resync, Standing::Resync { error: None, .. } | Standing::Swapping { .. }) => Nothing,
        (Resync, _) => Become(Standing::resync("asked for")),
        (Skip, Standing::Swapping { .. }) => Refused,
        (Skip, _) => Become(Standing::Skipped),
        (Pause, Standing::Skipped | Standing::Swapping { .. }) | (Resume, Standing::Stopped { .. }) => {
            Refused
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    /// R refused, - nothing, else the state it becomes.
    #[test]
    fn the_transition_table_of_tables() {
        let failed = || Error::new(ErrorKind::ValueRefused, "too long");
        let rows = [
            // pause resume resync skip
            (Standing::Following, "paused - resync skipped"),
            (Standing::Stopped { error: failed() }, "paused R resync skipped"),
            (Standing::Paused, "- resync resync skipped"),
            (Standing::Skipped, "R resync resync -"),
            (Standing::resync("asked for"), "paused - - skipped"),
            // A newer word begins at once what waits for its next try.
            (Standing::Resync { reason: String::new(), error: Some(failed()) }, "paused - resync skipped"),
            (Standing::Swapping { shadow: TableName::new("s", "t") }, "R - - R"),
            (Standing::Removed { place: None }, "R R R R"),
        ];
        for (standing, expected) in rows {
            let found: Vec<_> = TableCommand::ALL
                .iter()
                .map(|command| match decide_table(*command, &standing) {
                    TableDecision::Refused => "R",
                    TableDecision::Nothing => "-",
                    TableDecision::Become(next) => next.as_str(),
                })
                .collect();
            assert_eq!(found.join(" "), expected, "{standing:?}");
        }
    }

    #[test]
    fn words_are_those_of_json() {
        for standing in [Standing::Following, Standing::Paused, Standing::resync("x")] {
            assert_eq!(serde_json::to_value(&standing).unwrap()["state"], standing.as_str());
        }
        for command in TableCommand::ALL {
            assert_eq!(TableCommand::parse(command.as_str()), Some(*command));
        }
    }
}
