//! The URL of a PostgreSQL: nothing panics, what is read is read back, and no message shows what could be a password.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weir::session::postgres::url::PostgresUrl;

fuzz_target!(|text: &str| {
    match PostgresUrl::parse(text) {
        Ok(read) => {
            let plain = PostgresUrl { password: None, ..read };
            let shown = plain.to_string();
            // What is percent-encoded may be longer than what is read.
            if shown.len() <= 4_096 {
                assert_eq!(PostgresUrl::parse(&shown), Ok(plain));
            }
        }
        Err(error) => assert!(!error.help().is_empty()),
    }
});
