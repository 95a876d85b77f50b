//! Character sets and collations of TiDB, and what stands for them on a MySQL target.
//!
//! | TiDB | target | why |
//! |---|---|---|
//! | utf8, utf8mb4, gbk, binary | the same | |
//! | latin1, ascii | utf8mb4, a binary collation | TiDB keeps any bytes in them, UTF-8 text in particular; a real latin1 column would refuse it |
//! | others | utf8mb4 | their text arrives as UTF-8 |
//! | a collation that the target has | the same | |
//! | utf8mb4_0900_ai_ci, utf8mb4_0900_bin | the nearest that the target has, NO PAD before PAD SPACE | MariaDB lacks them |
//! | any, under `new_collation_enabled = False` | a NO PAD binary collation | TiDB then compares bytes |
//!
//! Which collations a target has is read from it ([`Collations`]). A column of a unique key never gets a collation that may call two
//! keys of the source one ([`map_key`]): a finer one does no harm to rows, because they are deleted under their old spelling.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;

use crate::model::{ColumnType, TypeName};
use crate::shared::Shared;

/// The collations of a target, as its information_schema lists them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Collations(Arc<BTreeSet<String>>);

/// A MariaDB has a thousand, and nearly all tasks go to few targets.
static SETS: Shared<BTreeSet<String>> = Shared::new();

impl Default for Collations {
    /// Those that every MySQL-protocol server has.
    fn default() -> Self {
        Self::of(PORTABLE.iter().map(|name| (*name).to_owned()).collect())
    }
}

/// In MySQL since 5.6, in MariaDB since 10.1 and (but for 520 and gbk_bin) in TiDB.
const PORTABLE: [&str; 11] = [
    "binary",
    "gbk_bin",
    "gbk_chinese_ci",
    "utf8_bin",
    "utf8_general_ci",
    "utf8_unicode_ci",
    "utf8mb4_bin",
    "utf8mb4_general_ci",
    "utf8mb4_unicode_520_ci",
    "utf8mb4_unicode_ci",
    "latin1_bin",
];

impl Collations {
    /// Of the names in `information_schema.COLLATIONS`.
    pub fn new(names: impl IntoIterator<Item = String>) -> Self {
        let mut set = BTreeSet::new();
        for name in names {
            let name = name.to_lowercase();
            if let Some(rest) = name.strip_prefix("utf8mb3_") {
                set.insert(format!("utf8_{rest}"));
            }
            // MariaDB lists the UCA 14 collations without a character set.
            if name.starts_with("uca1400_") {
                set.insert(format!("utf8mb4_{name}"));
            }
            set.insert(name);
        }
        Self::of(set)
    }

    fn of(set: BTreeSet<String>) -> Self {
        let Ok(set) = SETS.get(|known| *known == set, || Ok::<_, Infallible>(Arc::new(set.clone())));
        Self(set)
    }

    pub fn has(&self, name: &str) -> bool {
        self.0.contains(name)
    }
}

/// What the source says about the text of a column, a table or a schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SourceText {
    pub(super) charset: String,
    pub(super) collation: String,
}

impl SourceText {
    /// From what is said at one level; None when nothing is. A character set alone has its default collation.
    pub(super) fn said(charset: Option<&str>, collation: Option<&str>) -> Option<Self> {
        let collation = collation.map(str::to_lowercase);
        let charset = match (charset, &collation) {
            (Some(charset), _) => charset.to_lowercase(),
            (None, Some(collation)) => collation.split('_').next().unwrap_or_default().to_owned(),
            (None, None) => return None,
        };
        let charset = if charset == "utf8mb3" { "utf8".to_owned() } else { charset };
        let collation = collation
            .map(|name| name.replacen("utf8mb3_", "utf8_", 1))
            .unwrap_or_else(|| default_collation(&charset));
        Some(Self { charset, collation })
    }
}

impl Default for SourceText {
    fn default() -> Self {
        Self { charset: "utf8mb4".to_owned(), collation: "utf8mb4_bin".to_owned() }
    }
}

/// TiDB's, which are binary where MySQL's are not.
fn default_collation(charset: &str) -> String {
    match charset {
        "binary" => "binary".to_owned(),
        "gbk" => "gbk_chinese_ci".to_owned(),
        "gb18030" => "gb18030_chinese_ci".to_owned(),
        other => format!("{other}_bin"),
    }
}

/// A character set and collation of the target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TargetText {
    pub(super) charset: &'static str,
    pub(super) collation: String,
    /// Invalid UTF-8 of the source is cp1252.
    pub(super) latin1: bool,
    /// How equality differs from the source's; None when it does not.
    pub(super) differs: Option<&'static str>,
    /// The target ignores trailing spaces where the source does not: in a key, a value that ends in one is refused.
    pub(super) pads: bool,
}

impl TargetText {
    /// The most bytes of a character.
    pub(super) fn width(&self) -> u64 {
        match self.charset {
            "binary" => 1,
            "gbk" => 2,
            "utf8" => 3,
            _ => 4,
        }
    }

    /// Whether the character set surely has these characters. TiDB does not look: it keeps labels of an ENUM that a gbk table cannot hold.
    pub(super) fn holds(&self, text: &str) -> bool {
        text.chars().all(|c| match self.charset {
            "utf8" => u32::from(c) <= 0xffff,
            // All ideographs that gbk has.
            "gbk" => c.is_ascii() || ('\u{4e00}'..='\u{9fa5}').contains(&c),
            _ => true,
        })
    }
}

impl Default for TargetText {
    /// The one that holds everything and takes nothing for the same.
    fn default() -> Self {
        Self {
            charset: "utf8mb4",
            collation: "utf8mb4_bin".to_owned(),
            latin1: false,
            differs: None,
            pads: false,
        }
    }
}

const PAD: &str = "the target ignores trailing spaces in comparisons, the source does not: values of a key that differ only there would become one row";
const NEAR: &str = "the target lacks this collation; its nearest compares some values differently";
const FINER: &str = "the target lacks the source's collation, and one that is only near could take two keys for one; this one compares bytes, so queries tell more values apart";

/// For a column of a unique key: as [`map`] where that is exact, else a binary collation.
pub(super) fn map_key(source: &SourceText, bytewise: bool, available: &Collations) -> TargetText {
    let mapped = map(source, bytewise, available);
    if mapped.differs.is_none() {
        return mapped;
    }
    let unpadded = bytewise || source.collation.contains("0900");
    let exact = unpadded_binary(mapped.charset).iter().find(|name| available.has(name));
    let collation = match exact {
        Some(name) => (*name).to_owned(),
        None => format!("{}_bin", mapped.charset),
    };
    let pads = unpadded && exact.is_none();
    TargetText { collation, differs: Some(if pads { PAD } else { FINER }), pads, ..mapped }
}

fn unpadded_binary(charset: &str) -> &'static [&'static str] {
    match charset {
        "utf8" => &["utf8_nopad_bin"],
        "gbk" => &["gbk_nopad_bin"],
        _ => &["utf8mb4_0900_bin", "utf8mb4_nopad_bin"],
    }
}

/// `bytewise`: TiDB runs with `new_collation_enabled = False`.
pub(super) fn map(source: &SourceText, bytewise: bool, available: &Collations) -> TargetText {
    let charset = match source.charset.as_str() {
        "utf8" => "utf8",
        "gbk" => "gbk",
        "binary" => "binary",
        _ => "utf8mb4",
    };
    let latin1 = source.charset == "latin1";
    let found = |collation: &str, differs: Option<&'static str>| TargetText {
        charset,
        collation: collation.to_owned(),
        latin1,
        differs,
        pads: false,
    };
    let nearest = |candidates: &[&str], last: &str, differs: &'static str| {
        candidates
            .iter()
            .find(|name| available.has(name))
            .map(|name| found(name, None))
            .unwrap_or_else(|| found(last, Some(differs)))
    };
    if charset == "binary" {
        return found("binary", None);
    }
    if bytewise {
        return nearest(unpadded_binary(charset), &format!("{charset}_bin"), PAD);
    }
    match source.collation.as_str() {
        "latin1_bin" | "ascii_bin" => found("utf8mb4_bin", None),
        "utf8mb4_0900_bin" => nearest(unpadded_binary(charset), "utf8mb4_bin", PAD),
        "utf8mb4_0900_ai_ci" => {
            if available.has("utf8mb4_0900_ai_ci") {
                return found("utf8mb4_0900_ai_ci", None);
            }
            for near in ["utf8mb4_uca1400_nopad_ai_ci", "utf8mb4_unicode_520_nopad_ci"] {
                if available.has(near) {
                    return found(near, Some(NEAR));
                }
            }
            found("utf8mb4_unicode_520_ci", Some(PAD))
        }
        other if other.starts_with(charset) && available.has(other) => found(other, None),
        // A collation of a character set that became utf8mb4, or one unknown here.
        other => {
            let kind = if other.ends_with("_bin") { "bin" } else { "unicode_ci" };
            let collation = match (charset, kind) {
                ("gbk", "bin") => "gbk_bin".to_owned(),
                ("gbk", _) => "gbk_chinese_ci".to_owned(),
                (charset, kind) => format!("{charset}_{kind}"),
            };
            found(&collation, (kind != "bin").then_some(NEAR))
        }
    }
}

/// The text of a column: its own, the table's, the schema's, TiDB's default.
pub(super) fn of_column(
    ty: &ColumnType,
    table: Option<&SourceText>,
    schema: Option<&SourceText>,
) -> SourceText {
    SourceText::said(ty.charset.as_deref(), ty.collation.as_deref())
        .or_else(|| table.cloned())
        .or_else(|| schema.cloned())
        .unwrap_or_default()
}

/// CHAR and TEXT with the character set `binary` are BINARY and BLOB.
pub(super) fn binary_twin(name: TypeName) -> TypeName {
    match name {
        TypeName::Char => TypeName::Binary,
        TypeName::VarChar => TypeName::VarBinary,
        TypeName::TinyText => TypeName::TinyBlob,
        TypeName::Text => TypeName::Blob,
        TypeName::MediumText => TypeName::MediumBlob,
        TypeName::LongText => TypeName::LongBlob,
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapped(collation: &str, bytewise: bool, available: &Collations) -> (String, bool) {
        let source = SourceText::said(None, Some(collation)).unwrap();
        let target = map(&source, bytewise, available);
        (target.collation, target.differs.is_none())
    }

    #[test]
    fn collations_are_kept_or_replaced_by_the_nearest() {
        let portable = Collations::default();
        let maria = Collations::new(
            [
                "utf8mb4_bin",
                "utf8mb4_nopad_bin",
                "uca1400_nopad_ai_ci",
                "utf8mb3_nopad_bin",
                "utf8mb4_general_ci",
            ]
            .map(str::to_owned),
        );
        let mysql =
            Collations::new(["utf8mb4_0900_bin", "utf8mb4_0900_ai_ci", "utf8mb4_bin"].map(str::to_owned));
        for (collation, bytewise, available, expected) in [
            ("utf8mb4_bin", false, &portable, ("utf8mb4_bin", true)),
            ("utf8mb4_general_ci", false, &portable, ("utf8mb4_general_ci", true)),
            ("utf8mb3_bin", false, &portable, ("utf8_bin", true)),
            ("gbk_chinese_ci", false, &portable, ("gbk_chinese_ci", true)),
            ("latin1_bin", false, &portable, ("utf8mb4_bin", true)),
            ("latin1_swedish_ci", false, &portable, ("utf8mb4_unicode_ci", false)),
            ("utf8mb4_0900_ai_ci", false, &portable, ("utf8mb4_unicode_520_ci", false)),
            ("utf8mb4_0900_ai_ci", false, &maria, ("utf8mb4_uca1400_nopad_ai_ci", false)),
            ("utf8mb4_0900_ai_ci", false, &mysql, ("utf8mb4_0900_ai_ci", true)),
            ("utf8mb4_0900_bin", false, &maria, ("utf8mb4_nopad_bin", true)),
            ("utf8mb4_general_ci", true, &portable, ("utf8mb4_bin", false)),
            ("utf8mb4_general_ci", true, &maria, ("utf8mb4_nopad_bin", true)),
            ("utf8mb4_bin", true, &mysql, ("utf8mb4_0900_bin", true)),
            ("utf8_general_ci", true, &maria, ("utf8_nopad_bin", true)),
            ("utf8mb4_icelandic_ci", false, &portable, ("utf8mb4_unicode_ci", false)),
        ] {
            let found = mapped(collation, bytewise, available);
            assert_eq!((found.0.as_str(), found.1), expected, "{collation}, bytewise {bytewise}");
        }
    }

    #[test]
    fn a_key_gets_no_collation_that_may_take_two_keys_for_one() {
        let portable = Collations::default();
        let maria = Collations::new(
            ["utf8mb4_nopad_bin", "uca1400_nopad_ai_ci", "utf8_nopad_bin"].map(str::to_owned),
        );
        let mysql = Collations::new(["utf8mb4_0900_bin", "utf8mb4_0900_ai_ci"].map(str::to_owned));
        for (collation, bytewise, available, expected) in [
            ("utf8mb4_general_ci", false, &portable, ("utf8mb4_general_ci", true, false)),
            ("utf8mb4_0900_ai_ci", false, &mysql, ("utf8mb4_0900_ai_ci", true, false)),
            ("utf8mb4_0900_ai_ci", false, &maria, ("utf8mb4_nopad_bin", false, false)),
            ("utf8mb4_0900_ai_ci", false, &portable, ("utf8mb4_bin", false, true)),
            ("utf8mb4_0900_bin", false, &maria, ("utf8mb4_nopad_bin", true, false)),
            ("utf8mb4_0900_bin", false, &portable, ("utf8mb4_bin", false, true)),
            ("utf8mb4_icelandic_ci", false, &portable, ("utf8mb4_bin", false, false)),
            ("utf8_general_ci", true, &maria, ("utf8_nopad_bin", true, false)),
            ("utf8_general_ci", true, &portable, ("utf8_bin", false, true)),
        ] {
            let source = SourceText::said(None, Some(collation)).unwrap();
            let target = map_key(&source, bytewise, available);
            let found = (target.collation.as_str(), target.differs.is_none(), target.pads);
            assert_eq!(found, expected, "{collation}, bytewise {bytewise}");
        }
    }

    #[test]
    fn a_character_set_alone_has_the_default_collation_of_tidb() {
        for (charset, collation) in
            [("utf8mb4", "utf8mb4_bin"), ("gbk", "gbk_chinese_ci"), ("utf8mb3", "utf8_bin")]
        {
            assert_eq!(SourceText::said(Some(charset), None).unwrap().collation, collation);
        }
        assert_eq!(SourceText::said(None, None), None);
    }
}
