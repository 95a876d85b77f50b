//! A condition fitted to a table: every comparison is one whose outcome on the source is repeated exactly, or it is refused.

use super::eval::{Constant, FilterFault, Kind, Row, Test};
use super::like::Pattern;
use super::value::{Digits, moment, span, without_padding};
use super::{Comparison, Condition, Expr, Literal, Operand, Temporal};
use crate::model::{Column, Table, TypeName, Value, Zone};
use crate::sql::ddl::default_collation;

/// What the table's definition does not say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Context {
    /// Defaults of the table's schema; None = TiDB's.
    pub schema_charset: Option<String>,
    pub schema_collation: Option<String>,
    /// The source compares all text by its bytes (`new_collation_enabled = False`).
    pub bytewise: bool,
}

/// A comparison that cannot be repeated exactly, or makes no sense.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfit {
    pub column: String,
    pub reason: String,
    pub hint: &'static str,
}

/// A condition over one table, ready to judge rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Filter {
    test: Test,
    /// The columns it reads: place in the source's table, and name.
    columns: Vec<(usize, String)>,
    kinds: Vec<Kind>,
}

impl Filter {
    /// The columns to be given to [`Filter::matches`], in order.
    pub fn columns(&self) -> &[(usize, String)] {
        &self.columns
    }

    /// True when the condition holds; not when it is false or NULL. `zone` is that of TIMESTAMP text.
    ///
    /// # Errors
    /// A value that is not of its column's type.
    pub fn matches(&self, values: &[Value<'_>], zone: &Zone) -> Result<bool, FilterFault> {
        let row = Row { kinds: &self.kinds, values, zone };
        Ok(row.test(&self.test)? == Some(true))
    }
}

impl Condition {
    /// Fits the condition to a table.
    ///
    /// # Errors
    /// Everything in it that the table does not have or that would not be compared as the source compares it.
    pub fn bind(&self, table: &Table, context: &Context) -> Result<Filter, Vec<Unfit>> {
        let mut binder = Binder { table, context, columns: Vec::new(), kinds: Vec::new(), unfit: Vec::new() };
        let test = binder.expr(&self.0);
        if binder.unfit.is_empty() {
            Ok(Filter { test, columns: binder.columns, kinds: binder.kinds })
        } else {
            Err(binder.unfit)
        }
    }
}

struct Binder<'a> {
    table: &'a Table,
    context: &'a Context,
    columns: Vec<(usize, String)>,
    kinds: Vec<Kind>,
    unfit: Vec<Unfit>,
}

type Refusal = (&'static str, &'static str);

impl<'a> Binder<'a> {
    fn expr(&mut self, expr: &Expr) -> Test {
        match expr {
            Expr::Constant(value) => Test::Constant(*value),
            Expr::Not(inner) => Test::Not(Box::new(self.expr(inner))),
            Expr::And(parts) => Test::And(parts.iter().map(|part| self.expr(part)).collect()),
            Expr::Or(parts) => Test::Or(parts.iter().map(|part| self.expr(part)).collect()),
            Expr::IsNull(operand) => match self.column(operand) {
                Some((place, _)) => Test::IsNull(self.slot(place, Kind::Opaque)),
                None => Test::Constant(None),
            },
            Expr::Compare(operand, comparison, literal) => self.on(operand, |binder, place, column| {
                let kind = binder.kind(column, operand.binary)?;
                let order = !matches!(comparison, Comparison::Equal | Comparison::NotEqual);
                let Some(constant) = constant(kind, column, literal)? else {
                    return Ok(Test::Constant(None));
                };
                if matches!(constant, Constant::Whole(number, _) if !fits_sign(column, number)) {
                    return Err(CANNOT_HOLD);
                }
                if order {
                    binder.ordered(kind, column, operand.binary)?;
                }
                Ok(Test::Compare(binder.slot(place, kind), *comparison, constant))
            }),
            Expr::In(operand, literals) => self.on(operand, |binder, place, column| {
                let kind = binder.kind(column, operand.binary)?;
                let mut list = Vec::with_capacity(literals.len());
                let mut null = false;
                for literal in literals {
                    match constant(kind, column, literal)? {
                        Some(Constant::Whole(number, true)) if !fits_sign(column, number) => {
                            return Err(CANNOT_HOLD);
                        }
                        Some(constant) => list.push(constant),
                        None => null = true,
                    }
                }
                Ok(Test::In { slot: binder.slot(place, kind), list, null })
            }),
            Expr::Like(operand, pattern) => self.on(operand, |binder, place, column| {
                let kind = binder.kind(column, operand.binary)?;
                if !column.ty.name.is_text() || operand.binary {
                    return Err(("LIKE is for text columns", "use = or IN, or a range"));
                }
                let pattern = Pattern::parse(pattern).ok_or((
                    "the pattern has a backslash in front of something else than %, _ and backslash",
                    "write two backslashes for one",
                ))?;
                Ok(Test::Like(binder.slot(place, kind), pattern))
            }),
        }
    }

    /// Binds a test of one column, or notes why not.
    fn on(
        &mut self,
        operand: &Operand,
        bind: impl FnOnce(&mut Self, usize, &'a Column) -> Result<Test, Refusal>,
    ) -> Test {
        let Some((place, column)) = self.column(operand) else { return Test::Constant(None) };
        bind(self, place, column).unwrap_or_else(|(reason, hint)| {
            self.unfit.push(Unfit { column: column.name.clone(), reason: reason.to_owned(), hint });
            Test::Constant(None)
        })
    }

    fn column(&mut self, operand: &Operand) -> Option<(usize, &'a Column)> {
        let place = self.table.column_index(&operand.column);
        let found = place.and_then(|place| Some((place, self.table.columns.get(place)?)));
        let refusal = match found {
            None => ("the table does not have this column", "correct the filter"),
            Some((_, column)) if column.generated.is_some() => (
                "is a generated column, whose values the stream does not carry",
                "write the condition over the columns that it is computed from",
            ),
            Some(found) => return Some(found),
        };
        self.unfit.push(Unfit {
            column: operand.column.clone(),
            reason: refusal.0.to_owned(),
            hint: refusal.1,
        });
        None
    }

    /// A column may be read as two kinds (`a = 'x' AND BINARY a = 'x'`).
    fn slot(&mut self, place: usize, kind: Kind) -> usize {
        let known = self
            .columns
            .iter()
            .zip(&self.kinds)
            .position(|((at, _), known)| *at == place && (*known == kind || kind == Kind::Opaque));
        known.unwrap_or_else(|| {
            let name = self.table.columns.get(place).map(|column| column.name.clone()).unwrap_or_default();
            self.columns.push((place, name));
            self.kinds.push(kind);
            self.kinds.len() - 1
        })
    }

    fn kind(&self, column: &Column, binary: bool) -> Result<Kind, Refusal> {
        let name = column.ty.name;
        if name.is_text() {
            return if binary { Ok(Kind::Text { pads: false }) } else { self.text(column) };
        }
        if binary && !name.is_binary() {
            return Err(("BINARY is for text columns", "leave BINARY out"));
        }
        Ok(match name {
            _ if name.is_binary() => Kind::Text { pads: false },
            TypeName::Float => Kind::Single,
            TypeName::Double => Kind::Double,
            TypeName::Decimal => Kind::Decimal,
            TypeName::Year => Kind::Integer,
            _ if name.is_integer() => Kind::Integer,
            TypeName::Date | TypeName::DateTime => Kind::Moment,
            TypeName::Timestamp => Kind::Instant,
            TypeName::Time => Kind::Span,
            TypeName::Enum => Kind::Label,
            _ => {
                return Err((
                    "BIT, SET and JSON columns can only be asked IS NULL and IS NOT NULL",
                    "filter by another column",
                ));
            }
        })
    }

    fn text(&self, column: &Column) -> Result<Kind, Refusal> {
        if self.context.bytewise {
            return Ok(Kind::Text { pads: false });
        }
        let collation = self.collation(column);
        match collation.as_str() {
            "utf8mb4_0900_bin" | "binary" => Ok(Kind::Text { pads: false }),
            "utf8mb4_bin" | "utf8_bin" | "utf8mb3_bin" | "latin1_bin" | "ascii_bin" | "gbk_bin" => {
                Ok(Kind::Text { pads: true })
            }
            _ => Err((
                "its collation calls different texts equal, in a way that only the source knows exactly",
                "write BINARY in front of the column to compare bytes, or filter by another column",
            )),
        }
    }

    fn collation(&self, column: &Column) -> String {
        let said = |charset: &Option<String>, collation: &Option<String>| {
            collation.clone().or_else(|| {
                let charset = charset.as_deref()?;
                Some(default_collation(charset))
            })
        };
        said(&column.ty.charset, &column.ty.collation)
            .or_else(|| said(&self.table.charset, &self.table.collation))
            .or_else(|| said(&self.context.schema_charset, &self.context.schema_collation))
            .map_or_else(|| "utf8mb4_bin".to_owned(), |name| name.to_lowercase())
    }

    fn ordered(&self, kind: Kind, column: &Column, binary: bool) -> Result<(), Refusal> {
        match kind {
            Kind::Label => Err(("labels have no order that both phases know", "use =, != or IN")),
            Kind::Text { pads: true } if !binary && self.collation(column) == "gbk_bin" => Err((
                "gbk_bin orders by the bytes of GBK",
                "use =, != or IN, or write BINARY in front of the column",
            )),
            _ => Ok(()),
        }
    }
}

/// Whether 64 bits of the column's signedness hold the number.
fn fits_sign(column: &Column, number: i128) -> bool {
    if column.ty.unsigned { u64::try_from(number).is_ok() } else { i64::try_from(number).is_ok() }
}

/// `NOT c = 9223372036854775808` is true for a NULL there: TiDB has made the comparison false before it looks at the row.
const CANNOT_HOLD: Refusal = (
    "is asked for a number that its type cannot hold; TiDB misjudges such conditions",
    "leave the number out, or name the column's own bound",
);

const NUMBER: Refusal =
    ("is a number: compared with a text it would become inexact", "write the number without quotes");
const TEXT: Refusal = ("is text: compared with a number it would become inexact", "put the value in quotes");
const DATE: Refusal = (
    "is compared with dates written as 'YYYY-MM-DD' or 'YYYY-MM-DD HH:MM:SS[.ffffff]', real ones",
    "write it so; TIMESTAMP columns in UTC",
);
const TIME: Refusal = ("is compared with times written as '[-]HH:MM:SS[.ffffff]'", "write it so");

/// The literal as the column's kind; None for NULL.
fn constant(kind: Kind, column: &Column, literal: &Literal) -> Result<Option<Constant>, Refusal> {
    let written = match literal {
        Literal::Null => return Ok(None),
        Literal::Boolean(value) => Literal::Number(u8::from(*value).to_string()),
        other => other.clone(),
    };
    Ok(Some(match (kind, &written) {
        (Kind::Integer, Literal::Number(text)) => {
            let digits = exact(text)?;
            let (floor, whole) = digits.floor();
            if column.ty.name == TypeName::Year && !(whole && (1901..=2155).contains(&floor)) {
                return Err(("is a YEAR: compared with 1901 to 2155 only", "write a year of four digits"));
            }
            Constant::Whole(floor, whole)
        }
        (Kind::Decimal, Literal::Number(text)) => {
            exact(text)?;
            Constant::Decimal(text.clone().into_bytes())
        }
        (Kind::Single | Kind::Double, Literal::Number(text)) => {
            let number: f64 = text.parse().map_err(|_| NUMBER)?;
            if !number.is_finite() {
                return Err(("is compared with a number beyond the range of DOUBLE", "write a smaller one"));
            }
            Constant::Double(number)
        }
        (Kind::Integer | Kind::Decimal | Kind::Single | Kind::Double, _) => return Err(NUMBER),
        (Kind::Text { .. }, Literal::Bytes(bytes)) if column.ty.name.is_binary() => {
            Constant::Text(bytes.clone())
        }
        (Kind::Text { pads }, Literal::Text(text)) => {
            let latin1 = column.ty.charset.as_deref().is_some_and(|charset| charset == "latin1");
            if latin1 && !text.is_ascii() {
                return Err((
                    "is latin1: how its bytes beyond ASCII are to be read is not known",
                    "use ASCII, or filter by another column",
                ));
            }
            let text = if pads { without_padding(text.as_bytes()) } else { text.as_bytes() };
            Constant::Text(text.to_vec())
        }
        (Kind::Text { .. }, _) => return Err(TEXT),
        (Kind::Moment | Kind::Instant, Literal::Text(text)) => Constant::Moment(date(text)?),
        (Kind::Moment | Kind::Instant, Literal::Temporal(written, text)) => {
            let length = text.len();
            let fits = match written {
                Temporal::Date => length == 10,
                Temporal::Timestamp => length > 10,
                Temporal::Time => false,
            };
            if !fits {
                return Err(DATE);
            }
            Constant::Moment(date(text)?)
        }
        (Kind::Moment | Kind::Instant, _) => return Err(DATE),
        (Kind::Span, Literal::Text(text) | Literal::Temporal(Temporal::Time, text)) => {
            let limit = 839 * 3_600_000_000;
            Constant::Span(span(text.as_bytes()).filter(|span| span.abs() < limit).ok_or(TIME)?)
        }
        (Kind::Span, _) => return Err(TIME),
        (Kind::Label, Literal::Text(text)) => {
            let place = column.ty.labels.iter().position(|label| label == text).filter(|_| !text.is_empty());
            let place = place.ok_or((
                "is an ENUM, and this is none of its labels",
                "write a label as the column's definition has it",
            ))?;
            Constant::Label(place as u64 + 1)
        }
        (Kind::Label, _) => {
            return Err(("is an ENUM: compared with its labels only", "write a label in quotes"));
        }
        (Kind::Opaque, _) => return Err(NUMBER),
    }))
}

/// A number that the source keeps exactly: no exponent, at most 65 digits, 30 of them behind the point.
fn exact(text: &str) -> Result<Digits<'_>, Refusal> {
    let digits = Digits::parse(text.as_bytes()).ok_or((
        "is exact: compared with a number that has an exponent it would not be",
        "write its digits",
    ))?;
    let written = text.bytes().filter(u8::is_ascii_digit).count();
    let fraction = text.split_once('.').map_or(0, |(_, fraction)| fraction.len());
    if written > 65 || fraction > 30 {
        return Err(("is compared with more digits than a DECIMAL has", "write fewer digits"));
    }
    Ok(digits)
}

fn date(text: &str) -> Result<u64, Refusal> {
    let day = text.get(..10).ok_or(DATE)?;
    chrono::NaiveDate::parse_from_str(day, "%Y-%m-%d").map_err(|_| DATE)?;
    moment(text.as_bytes()).ok_or(DATE)
}
