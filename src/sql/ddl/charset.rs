//! What the grammar must know of character sets, as TiDB defines them.

/// `utf8mb3` is `utf8` under another name; names have no case.
pub(super) fn canonical(name: &str) -> String {
    let lower = name.to_ascii_lowercase();
    match lower.strip_prefix("utf8mb3") {
        Some(rest) => format!("utf8{rest}"),
        None => lower,
    }
}

/// The character set of a collation in lower case: everything before the first `_`.
pub(super) fn of_collation(collation: &str) -> &str {
    collation.split('_').next().unwrap_or(collation)
}

/// The collation that TiDB takes for a character set (lower case) when none is given.
pub fn default_collation(charset: &str) -> String {
    match charset {
        "binary" => "binary".to_owned(),
        "gbk" => "gbk_chinese_ci".to_owned(),
        "gb18030" => "gb18030_chinese_ci".to_owned(),
        other => format!("{other}_bin"),
    }
}

/// The most bytes that one character takes.
pub(super) fn bytes_per_character(charset: &str) -> u64 {
    match charset {
        "latin1" | "ascii" | "binary" => 1,
        "gbk" | "ucs2" => 2,
        "utf8" => 3,
        _ => 4,
    }
}
