//! Languages: from ISO 639-2, as a PMT has them (ISO_639_language_descriptor, 2.6.18), to BCP 47, as playlists do.

/// "When a language has both an ISO 639-1 two-character code and a three-character code, the two-character one is used"
/// (RFC 5646, 2.2.1): those of Europe, and the most spoken ones. Where there are two codes of three, both are here.
const SHORT: [(&[u8; 3], &str); 58] = [
    (b"ara", "ar"),
    (b"bel", "be"),
    (b"ben", "bn"),
    (b"bos", "bs"),
    (b"bul", "bg"),
    (b"cat", "ca"),
    (b"ces", "cs"),
    (b"chi", "zh"),
    (b"cym", "cy"),
    (b"cze", "cs"),
    (b"dan", "da"),
    (b"deu", "de"),
    (b"dut", "nl"),
    (b"ell", "el"),
    (b"eng", "en"),
    (b"est", "et"),
    (b"eus", "eu"),
    (b"fas", "fa"),
    (b"fin", "fi"),
    (b"fra", "fr"),
    (b"fre", "fr"),
    (b"ger", "de"),
    (b"gle", "ga"),
    (b"glg", "gl"),
    (b"gre", "el"),
    (b"heb", "he"),
    (b"hin", "hi"),
    (b"hrv", "hr"),
    (b"hun", "hu"),
    (b"ind", "id"),
    (b"isl", "is"),
    (b"ita", "it"),
    (b"jpn", "ja"),
    (b"kor", "ko"),
    (b"lav", "lv"),
    (b"lit", "lt"),
    (b"ltz", "lb"),
    (b"mkd", "mk"),
    (b"nld", "nl"),
    (b"nob", "nb"),
    (b"nor", "no"),
    (b"pol", "pl"),
    (b"por", "pt"),
    (b"ron", "ro"),
    (b"rum", "ro"),
    (b"rus", "ru"),
    (b"slk", "sk"),
    (b"slo", "sk"),
    (b"slv", "sl"),
    (b"spa", "es"),
    (b"sqi", "sq"),
    (b"srp", "sr"),
    (b"swe", "sv"),
    (b"tur", "tr"),
    (b"ukr", "uk"),
    (b"urd", "ur"),
    (b"vie", "vi"),
    (b"zho", "zh"),
];

/// What `und` (undetermined), `mul` (several), `mis`, `zxx` and the codes for a programme's own use (`qaa` to `qtz`) say is
/// no language.
fn is_none(code: &[u8; 3]) -> bool {
    matches!(code, b"und" | b"mul" | b"mis" | b"zxx") || code[0] == b'q' && code[1] <= b't'
}

/// The language tag of three letters, in whatever case.
pub(super) fn tag(code: [u8; 3]) -> Option<String> {
    let code = code.map(|letter| letter.to_ascii_lowercase());
    if !code.iter().all(u8::is_ascii_lowercase) || is_none(&code) {
        return None;
    }
    let short = SHORT.iter().find(|(long, _)| **long == code).map(|(_, short)| (*short).to_owned());
    Some(short.unwrap_or_else(|| code.map(char::from).iter().collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_letters_to_the_shortest_tag() {
        let check = |code: &[u8; 3], expect: Option<&str>| assert_eq!(tag(*code).as_deref(), expect);
        check(b"eng", Some("en"));
        check(b"GER", Some("de"));
        check(b"deu", Some("de"));
        check(b"gsw", Some("gsw"));
        check(b"und", None);
        check(b"qad", None);
        check(b"\0\0\0", None);
    }
}
