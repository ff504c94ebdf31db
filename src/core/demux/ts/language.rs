//! Languages: from ISO 639-2, as in PMTs (ISO_639_language_descriptor, 2.6.18), to BCP 47, as in playlists.

/// The codes of two letters for languages of Europe and the most spoken ones. "When a language has both an ISO 639-1
/// two-character code and a three-character code, the two-character one is used" (RFC 5646, 2.2.1). Where a language
/// has two codes of three letters, both are here.
const SHORT: &str = "ara ar, bel be, ben bn, bos bs, bul bg, cat ca, ces cs, chi zh, cym cy, cze cs, dan da, deu de, dut nl, \
    ell el, eng en, est et, eus eu, fas fa, fin fi, fra fr, fre fr, ger de, gle ga, glg gl, gre el, heb he, \
    hin hi, hrv hr, hun hu, ind id, isl is, ita it, jpn ja, kor ko, lav lv, lit lt, ltz lb, mkd mk, nld nl, \
    nob nb, nor no, pol pl, por pt, ron ro, rum ro, rus ru, slk sk, slo sk, slv sl, spa es, sqi sq, srp sr, \
    swe sv, tur tr, ukr uk, urd ur, vie vi, zho zh";

/// Returns whether the code names no language: `und` (undetermined), `mul` (several), `mis`, `zxx`, and the codes for
/// private use (`qaa` to `qtz`).
fn is_none(code: &[u8; 3]) -> bool {
    matches!(code, b"und" | b"mul" | b"mis" | b"zxx") || code[0] == b'q' && code[1] <= b't'
}

/// Returns the language tag of three letters in any case.
pub(super) fn tag(code: [u8; 3]) -> Option<String> {
    let code = code.map(|letter| letter.to_ascii_lowercase());
    if !code.iter().all(u8::is_ascii_lowercase) || is_none(&code) {
        return None;
    }
    let long: String = code.map(char::from).iter().collect();
    let short = SHORT.split(", ").filter_map(|pair| pair.split_once(' ')).find(|(three, _)| *three == long);
    Some(short.map_or_else(|| long.clone(), |(_, two)| two.to_owned()))
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
