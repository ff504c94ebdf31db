use super::*;

fn text(path: &str) -> &'static str {
    std::str::from_utf8(asset(path).expect(path).bytes).expect("the page's files are UTF-8")
}

/// Every `src`, `href` and `import` of the page's own files leads to an asset.
#[test]
fn nothing_the_page_asks_for_is_missing() {
    let html = text("/");
    for path in html.split('"').filter(|s| s.starts_with("/player/")) {
        assert!(asset(path).is_some() || (!EMBEDDED && path.starts_with("/player/lib/")), "{path}");
    }
    for module in paths().filter(|p| p.ends_with(".js") && !p.contains("/lib/")) {
        for import in text(module).lines().filter_map(|l| l.split_once(" from \"./")) {
            let name = import.1.trim_end_matches("\";");
            assert!(asset(&format!("/player/{name}")).is_some(), "{module} imports {name}");
        }
    }
}

#[test]
fn types_and_tags_fit() {
    for (path, content_type) in [
        ("/", "text/html; charset=utf-8"),
        ("/player/main.js", "text/javascript; charset=utf-8"),
        ("/player/style.css", "text/css; charset=utf-8"),
        ("/player/damson.svg", "image/svg+xml"),
    ] {
        let found = asset(path).expect(path);
        assert_eq!(found.content_type, content_type, "{path}");
        assert!(found.etag.starts_with('"') && found.etag.ends_with('"'), "{path}: {}", found.etag);
        assert_eq!(found.gzip[..2], [0x1f, 0x8b], "{path}: RFC 1952 2.3.1");
    }
    assert!(asset("/player/").is_none() && asset("").is_none() && asset("/player/../Cargo.toml").is_none());
}

#[test]
fn the_players_are_there_or_the_page_says_so() {
    assert_eq!(asset("/player/lib/hls.js").is_some(), EMBEDDED);
    assert_eq!(asset("/player/lib/shaka.js").is_some(), EMBEDDED);
    assert_eq!(asset("/player/lib/dash.js").is_some(), EMBEDDED);
    assert!(text("/player/build.js").contains(&format!("EMBEDDED = {EMBEDDED};")));
}

/// The CDN's versions are those of the lock file, and each comes with a hash.
#[test]
fn the_cdn_has_the_locked_versions() {
    let sources = text("/player/sources.js");
    let lock = include_str!("../package-lock.json");
    assert!(!lock.contains("\"resolved\""), "the lock file names no host that packages come from");
    for package in ["hls.js", "shaka-player", "dashjs"] {
        let entry = lock.split_once(&format!("\"node_modules/{package}\": {{")).expect(package).1;
        let version = entry.split('"').nth(3).expect("a version");
        assert!(sources.contains(&format!("/npm/{package}@{version}/")), "{package} {version}");
    }
    assert_eq!(sources.matches("integrity: \"sha384-").count(), 3);
}
