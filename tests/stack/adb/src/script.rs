//! What tests ask for and what they learn: faults to come, and what was refused by rule.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::refusal::Refusal;

/// Kept texts of statements are cut here.
const SHOWN: usize = 500;
const KEPT: usize = 100;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// The error instead of running it.
    Refuse(Refusal),
    /// It runs after a pause.
    Slow(Duration),
    /// The connection ends, and the statement does not run.
    CutBefore,
    /// The connection ends after it ran, before the answer.
    CutAfter,
    /// The connection ends at once; the statement runs later, unless its session was killed by then.
    CutLate(Duration),
    /// It runs twice.
    Twice,
}

#[derive(Debug, Clone)]
pub struct Fault {
    pub id: u64,
    /// Lower case; all of these words must be in the first bytes of the statement.
    pub matching: Vec<String>,
    pub writes_only: bool,
    pub skip: u64,
    pub times: u64,
    pub action: Action,
    pub met: u64,
}

#[derive(Default)]
pub struct Inner {
    next: u64,
    pub faults: Vec<Fault>,
    pub statements: u64,
    pub refused: u64,
    /// Statement, code, text.
    pub last_refused: Vec<(String, u16, String)>,
}

#[derive(Clone, Default)]
pub struct Script(Arc<Mutex<Inner>>);

impl Script {
    pub fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn add(&self, mut fault: Fault) -> u64 {
        let mut inner = self.lock();
        inner.next += 1;
        fault.id = inner.next;
        inner.faults.push(fault);
        inner.next
    }

    /// What is to happen to this statement; counts it.
    pub fn meet(&self, sql: &[u8], writes: bool) -> Vec<Action> {
        let mut inner = self.lock();
        inner.statements += 1;
        if inner.faults.is_empty() {
            return Vec::new();
        }
        let text = String::from_utf8_lossy(&sql[..sql.len().min(2000)]).to_lowercase();
        let mut actions = Vec::new();
        for fault in &mut inner.faults {
            let applies =
                (writes || !fault.writes_only) && fault.matching.iter().all(|word| text.contains(word));
            if applies && fault.met < fault.skip.saturating_add(fault.times) {
                fault.met += 1;
                if fault.met > fault.skip {
                    actions.push(fault.action.clone());
                }
            }
        }
        actions
    }

    /// A statement that broke a rule of AnalyticDB.
    pub fn refused(&self, sql: &[u8], refusal: &Refusal) {
        let mut inner = self.lock();
        inner.refused += 1;
        let shown = String::from_utf8_lossy(&sql[..sql.len().min(SHOWN)]).into_owned();
        inner.last_refused.push((shown, refusal.code, refusal.text.clone()));
        if inner.last_refused.len() > KEPT {
            inner.last_refused.remove(0);
        }
    }
}
