//! The edge's paths and queries: any is routed or refused, and the refusal says that the request is at fault.
#![no_main]

use damson_core::manifest::route::{Route, normalize};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|target: &str| {
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    let fault = match normalize(path) {
        Ok(path) => match Route::parse(&path, query) {
            Ok(_) => return,
            Err(fault) => fault,
        },
        Err(fault) => fault,
    };
    assert!(matches!(fault.status, 400 | 404 | 414) && fault.text.starts_with("request: "), "{fault}");
});
