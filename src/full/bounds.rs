//! Bounds of a chunk as SQL conditions, pure.
//!
//! A chunk takes the keys from `lower` (included) to `upper` (excluded) in the server's own order. The conditions are an OR of
//! ANDs without overlap, which TiDB turns into exact ranges of a clustered key; a nested or row-wise comparison would make it
//! scan. All comparing is the server's: it knows the collations. Only `shared` has to be known beforehand: two spellings of one
//! value (`a`, `A`) would otherwise open a range that is not there.

use serde::{Deserialize, Serialize};

use crate::sql::literal;

/// A key column's value, ready to be written into a condition.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Literal {
    Number(String),
    Text(String),
    /// Hexadecimal digits of a binary string, or of a text that is not UTF-8.
    Hex(String),
    /// 0 of an ENUM, below all its labels. TiDB 7.0 compares a key column with it in no prepared statement (error 1265).
    NoLabel,
}

impl Literal {
    pub fn of_bytes(bytes: &[u8]) -> Self {
        Self::Hex(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    pub fn of_text(bytes: &[u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::Text(text.to_owned()),
            Err(_) => Self::of_bytes(bytes),
        }
    }

    /// As SQL.
    pub fn sql(&self) -> String {
        match self {
            Self::Number(digits) => digits.clone(),
            Self::Text(text) => literal::string(text),
            Self::Hex(digits) => format!("x'{digits}'"),
            Self::NoLabel => "0".to_owned(),
        }
    }

    /// `column OPERATOR literal`.
    pub fn compared(&self, column: &str, operator: Operator) -> String {
        match (self, operator) {
            (Self::NoLabel, Operator::Equal) => format!("{column} < 1"),
            (Self::NoLabel, Operator::Above) => format!("{column} >= 1"),
            (Self::NoLabel, Operator::AtLeast) => format!("{column} IS NOT NULL"),
            (Self::NoLabel, Operator::Below) => format!("{column} IS NULL"),
            (literal, operator) => format!("{column} {} {}", operator.sql(), literal.sql()),
        }
    }
}

/// A key range. None = no bound on this side.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bounds {
    pub lower: Option<Vec<Literal>>,
    pub upper: Option<Vec<Literal>>,
    /// Leading columns whose values in both bounds are equal for the server.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub shared: usize,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(number: &usize) -> bool {
    *number == 0
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    Equal,
    Above,
    AtLeast,
    Below,
}

impl Operator {
    fn sql(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::Above => ">",
            Self::AtLeast => ">=",
            Self::Below => "<",
        }
    }
}

/// `column OPERATOR literal`; `column` counts from 0 in the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comparison {
    pub column: usize,
    pub operator: Operator,
    pub literal: Literal,
}

type Conjunction = Vec<Comparison>;

impl Bounds {
    /// An OR of ANDs; empty when there is no bound at all.
    pub fn condition(&self) -> Vec<Conjunction> {
        match (&self.lower, &self.upper) {
            (None, None) => Vec::new(),
            (Some(lower), None) => from(lower, 0, lower.len()),
            (None, Some(upper)) => below(upper, 0, upper.len()),
            (Some(lower), Some(upper)) => between(lower, upper, self.shared),
        }
    }

    /// The condition over these quoted column names, None when there is no bound at all.
    pub fn sql(&self, columns: &[String]) -> Option<String> {
        let term = |comparison: &Comparison| {
            let column = columns.get(comparison.column).map_or("NULL", String::as_str);
            comparison.literal.compared(column, comparison.operator)
        };
        let alternatives: Vec<String> = self
            .condition()
            .iter()
            .map(|all| format!("({})", all.iter().map(term).collect::<Vec<_>>().join(" AND ")))
            .collect();
        (!alternatives.is_empty()).then(|| alternatives.join(" OR "))
    }
}

/// Equality of the columns before `until`.
fn prefix(values: &[Literal], until: usize) -> Conjunction {
    values
        .iter()
        .take(until)
        .enumerate()
        .map(|(column, literal)| Comparison { column, operator: Operator::Equal, literal: literal.clone() })
        .collect()
}

/// One alternative per column in `first..end`: all before it equal, itself by `operator(column)`.
fn tails(
    values: &[Literal],
    first: usize,
    end: usize,
    operator: impl Fn(usize) -> Operator,
) -> Vec<Conjunction> {
    values
        .iter()
        .enumerate()
        .take(end)
        .skip(first)
        .map(|(column, literal)| {
            let mut all = prefix(values, column);
            all.push(Comparison { column, operator: operator(column), literal: literal.clone() });
            all
        })
        .collect()
}

/// Keys at or above `lower`, given that the first column to look at is `first`. The longest prefix comes first: server order.
fn from(lower: &[Literal], first: usize, end: usize) -> Vec<Conjunction> {
    let last = lower.len().saturating_sub(1);
    let mut alternatives =
        tails(lower, first, end, |column| if column == last { Operator::AtLeast } else { Operator::Above });
    alternatives.reverse();
    alternatives
}

/// Keys below `upper`.
fn below(upper: &[Literal], first: usize, end: usize) -> Vec<Conjunction> {
    tails(upper, first, end, |_| Operator::Below)
}

fn between(lower: &[Literal], upper: &[Literal], shared: usize) -> Vec<Conjunction> {
    let (Some(low), Some(high)) = (lower.get(shared), upper.get(shared)) else {
        // Equal keys: nothing lies between them. A planner does not make this.
        let nothing = upper.first().map(|first| Comparison {
            column: 0,
            operator: Operator::Below,
            literal: first.clone(),
        });
        return vec![prefix(lower, lower.len()).into_iter().chain(nothing).collect()];
    };
    let last = lower.len().saturating_sub(1) == shared;
    let mut alternatives = from(lower, shared + 1, lower.len());
    let mut middle = prefix(lower, shared);
    middle.push(Comparison {
        column: shared,
        operator: if last { Operator::AtLeast } else { Operator::Above },
        literal: low.clone(),
    });
    middle.push(Comparison { column: shared, operator: Operator::Below, literal: high.clone() });
    alternatives.push(middle);
    alternatives.extend(below(upper, shared + 1, upper.len()));
    alternatives
}

#[cfg(test)]
mod tests {
    use std::cmp::Ordering;

    use proptest::prelude::*;

    use super::*;

    fn text(values: &[&str]) -> Option<Vec<Literal>> {
        Some(values.iter().map(|value| Literal::Text((*value).to_owned())).collect())
    }

    fn columns(n: usize) -> Vec<String> {
        ["`a`", "`b`", "`c`"].iter().take(n).map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn one_column_is_a_plain_range() {
        let number = |n: &str| Some(vec![Literal::Number(n.to_owned())]);
        let bounds = Bounds { lower: number("5"), upper: number("9"), shared: 0 };
        assert_eq!(bounds.sql(&columns(1)).unwrap(), "(`a` >= 5 AND `a` < 9)");
        assert_eq!(
            Bounds { lower: number("-5"), ..Bounds::default() }.sql(&columns(1)).unwrap(),
            "(`a` >= -5)"
        );
        assert_eq!(Bounds::default().sql(&columns(1)), None);
    }

    #[test]
    fn several_columns_become_alternatives_without_overlap() {
        let bounds = Bounds { lower: text(&["a", "1", "x"]), upper: text(&["A", "2", "y"]), shared: 1 };
        assert_eq!(
            bounds.sql(&columns(3)).unwrap(),
            "(`a` = 'a' AND `b` = '1' AND `c` >= 'x') OR (`a` = 'a' AND `b` > '1' AND `b` < '2') \
             OR (`a` = 'A' AND `b` = '2' AND `c` < 'y')"
        );
        let open = Bounds { lower: text(&["a", "1"]), ..Bounds::default() };
        assert_eq!(open.sql(&columns(2)).unwrap(), "(`a` = 'a' AND `b` >= '1') OR (`a` > 'a')");
    }

    #[test]
    fn no_comparison_has_the_number_0_of_an_enum() {
        let bounds = |lower, upper| Bounds { lower, upper, shared: 0 }.sql(&columns(2)).unwrap();
        let key = |last: &str| Some(vec![Literal::NoLabel, Literal::Number(last.to_owned())]);
        assert_eq!(bounds(key("3"), None), "(`a` < 1 AND `b` >= 3) OR (`a` >= 1)");
        assert_eq!(bounds(None, key("3")), "(`a` IS NULL) OR (`a` < 1 AND `b` < 3)");
        assert_eq!(bounds(Some(vec![Literal::NoLabel]), None), "(`a` IS NOT NULL)");
    }

    #[test]
    fn text_that_is_not_utf8_becomes_hexadecimal() {
        assert_eq!(Literal::of_text(b"it's").sql(), "'it\\'s'");
        assert_eq!(Literal::of_text(&[0xe9]).sql(), "x'e9'");
    }

    /// The server's order in this model: without case.
    fn order(left: &str, right: &str) -> Ordering {
        left.to_lowercase().cmp(&right.to_lowercase())
    }

    fn order_keys(left: &[String], right: &[String]) -> Ordering {
        left.iter()
            .zip(right)
            .map(|(left, right)| order(left, right))
            .find(|order| order.is_ne())
            .unwrap_or(Ordering::Equal)
    }

    fn matching(bounds: &Bounds, key: &[String]) -> usize {
        let term = |comparison: &Comparison| {
            let Literal::Text(literal) = &comparison.literal else { return false };
            let order = order(&key[comparison.column], literal);
            match comparison.operator {
                Operator::Equal => order.is_eq(),
                Operator::Above => order.is_gt(),
                Operator::AtLeast => order.is_ge(),
                Operator::Below => order.is_lt(),
            }
        };
        let condition = bounds.condition();
        if condition.is_empty() { 1 } else { condition.iter().filter(|all| all.iter().all(term)).count() }
    }

    /// The spelling of a bound need not be the row's: another row with an equal column may have lent it.
    fn respell(key: &[String], upper: bool) -> Vec<Literal> {
        key.iter()
            .map(|part| Literal::Text(if upper { part.to_uppercase() } else { part.to_lowercase() }))
            .collect()
    }

    proptest! {
        #[test]
        fn chunks_neither_overlap_nor_leave_gaps(
            mut keys in (1usize..4).prop_flat_map(|width| {
                prop::collection::vec(prop::collection::vec("[aAbBcC]{0,2}", width), 1..80)
            }),
            step in 1usize..9,
            spellings in prop::collection::vec(any::<bool>(), 80),
        ) {
            keys.sort_by(|left, right| order_keys(left, right));
            keys.dedup_by(|left, right| order_keys(left, right).is_eq());
            let starts: Vec<&Vec<String>> = keys.iter().step_by(step).skip(1).collect();
            let mut chunks = Vec::new();
            let mut previous: Option<(&Vec<String>, Vec<Literal>)> = None;
            for (start, upper) in starts.iter().zip(&spellings) {
                let literals = respell(start, *upper);
                let shared = previous.as_ref().map_or(0, |(key, _)| {
                    key.iter().zip(start.iter()).take_while(|(a, b)| order(a, b).is_eq()).count()
                });
                let lower = previous.map(|(_, literals)| literals);
                chunks.push(Bounds { lower, upper: Some(literals.clone()), shared });
                previous = Some((start, literals));
            }
            chunks.push(Bounds { lower: previous.map(|(_, literals)| literals), upper: None, shared: 0 });
            for (at, key) in keys.iter().enumerate() {
                for (n, chunk) in chunks.iter().enumerate() {
                    prop_assert_eq!(matching(chunk, key), usize::from(n == at / step), "{:?} in {:?}", key, chunk);
                }
            }
        }
    }
}
