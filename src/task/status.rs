//! What a task is told and what it is: commands, desired and observed state, and the table of what is allowed when.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What the user wants. Written by the API only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Desired {
    /// Never started.
    None,
    Running,
    Paused,
    Stopped,
}

/// What is. Written under the epoch of the task's run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    Created,
    Running,
    /// Asked to pause; what was sent to the target is being acknowledged.
    Pausing,
    Paused,
    /// Waits for a person; `last_error` says why. `resume` goes on from the checkpoint.
    Failed,
    Stopping,
    /// For good, but for delete.
    Stopped,
    /// All phases are through.
    Finished,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    Start,
    Pause,
    Resume,
    Stop,
    Delete,
}

/// Text of an enum as JSON and the store have it.
macro_rules! words {
    ($type:ident { $($variant:ident = $word:literal),+ $(,)? }) => {
        impl $type {
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }

            pub fn parse(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$variant),)+ _ => None }
            }
        }
    };
}

words!(Desired { None = "none", Running = "running", Paused = "paused", Stopped = "stopped" });
words!(Status {
    Created = "created",
    Running = "running",
    Pausing = "pausing",
    Paused = "paused",
    Failed = "failed",
    Stopping = "stopping",
    Stopped = "stopped",
    Finished = "finished",
});
words!(Command { Start = "start", Pause = "pause", Resume = "resume", Stop = "stop", Delete = "delete" });

/// What a command does to a task in a given state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// The state forbids it.
    Refused,
    /// It is so already, or on its way.
    Nothing,
    /// Set `desired`; `status` too where no run can be that would write it.
    Set {
        desired: Desired,
        status: Option<Status>,
    },
    Delete,
}

/// The transition table. `Created` with `desired` running is a task whose first run is about to begin.
pub fn decide(command: Command, status: Status, desired: Desired) -> Decision {
    use Decision::{Delete, Nothing, Refused, Set};
    let set = |desired| Set { desired, status: None };
    match (command, status) {
        (Command::Start, Status::Created) if desired == Desired::None => set(Desired::Running),
        (Command::Start, Status::Created | Status::Running) if desired == Desired::Running => Nothing,
        (Command::Start, _) => Refused,

        (Command::Pause, Status::Failed | Status::Created | Status::Running)
            if desired == Desired::Running =>
        {
            set(Desired::Paused)
        }
        // Asked to resume while it was pausing: the newer word counts.
        (Command::Pause, Status::Pausing | Status::Paused) if desired == Desired::Running => {
            set(Desired::Paused)
        }
        (
            Command::Pause,
            Status::Created | Status::Running | Status::Pausing | Status::Paused | Status::Failed,
        ) if desired == Desired::Paused => Nothing,
        (Command::Pause, _) => Refused,

        // No run can be: the mark of failure is taken off here, so that the supervisor starts the next run.
        (Command::Resume, Status::Failed) if matches!(desired, Desired::Running | Desired::Paused) => {
            Set { desired: Desired::Running, status: Some(Status::Paused) }
        }
        (Command::Resume, Status::Created | Status::Running | Status::Pausing | Status::Paused)
            if desired == Desired::Paused =>
        {
            set(Desired::Running)
        }
        (Command::Resume, Status::Running | Status::Pausing | Status::Paused)
            if desired == Desired::Running =>
        {
            Nothing
        }
        (Command::Resume, _) => Refused,

        (Command::Stop, Status::Stopped) => Nothing,
        (Command::Stop, _) if desired == Desired::Stopped => Nothing,
        (Command::Stop, _) => set(Desired::Stopped),

        (Command::Delete, Status::Created) if desired == Desired::None => Delete,
        (Command::Delete, Status::Failed | Status::Stopped | Status::Finished) => Delete,
        (Command::Delete, _) => Refused,
    }
}

/// The states in which a command means something, for the refusal of one that does not.
pub fn allowed_from(command: Command) -> &'static [Status] {
    use Status::{Created, Failed, Finished, Paused, Pausing, Running, Stopped};
    match command {
        Command::Start => &[Created],
        Command::Pause => &[Running, Failed],
        Command::Resume => &[Pausing, Paused, Failed],
        Command::Stop => Status::ALL,
        Command::Delete => &[Created, Failed, Stopped, Finished],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every state that can be, with what each command does in it. R refused, - nothing, d delete, else the desired state set.
    #[test]
    fn the_transition_table() {
        let rows = [
            // status, desired: start pause resume stop delete
            (Status::Created, Desired::None, "run R R stop d"),
            (Status::Created, Desired::Running, "- pause R stop R"),
            (Status::Created, Desired::Paused, "R - run stop R"),
            (Status::Running, Desired::Running, "- pause - stop R"),
            (Status::Running, Desired::Paused, "R - run stop R"),
            (Status::Running, Desired::Stopped, "R R R - R"),
            (Status::Pausing, Desired::Paused, "R - run stop R"),
            (Status::Pausing, Desired::Running, "R pause - stop R"),
            (Status::Pausing, Desired::Stopped, "R R R - R"),
            (Status::Paused, Desired::Paused, "R - run stop R"),
            (Status::Paused, Desired::Running, "R pause - stop R"),
            (Status::Paused, Desired::Stopped, "R R R - R"),
            (Status::Failed, Desired::Running, "R pause run+ stop d"),
            (Status::Failed, Desired::Paused, "R - run+ stop d"),
            (Status::Failed, Desired::Stopped, "R R R - d"),
            (Status::Stopping, Desired::Stopped, "R R R - R"),
            (Status::Stopped, Desired::Stopped, "R R R - d"),
            (Status::Finished, Desired::Running, "R R R stop d"),
        ];
        for (status, desired, expected) in rows {
            let found: Vec<_> = Command::ALL
                .iter()
                .map(|command| match decide(*command, status, desired) {
                    Decision::Refused => "R",
                    Decision::Nothing => "-",
                    Decision::Delete => "d",
                    Decision::Set { desired: Desired::Running, status: Some(Status::Paused) } => "run+",
                    Decision::Set { desired: Desired::Running, status: None } => "run",
                    Decision::Set { desired: Desired::Paused, status: None } => "pause",
                    Decision::Set { desired: Desired::Stopped, status: None } => "stop",
                    other => panic!("{other:?}"),
                })
                .collect();
            assert_eq!(found.join(" "), expected, "{status:?} {desired:?}");
        }
    }

    #[test]
    fn words_are_those_of_json() {
        for status in Status::ALL {
            assert_eq!(serde_json::to_value(status).unwrap(), status.as_str());
            assert_eq!(Status::parse(status.as_str()), Some(*status));
        }
    }
}
