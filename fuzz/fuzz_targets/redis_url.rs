//! The URL of a Redis: nothing panics, what is read is read back, and no message shows what could be a password.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weir::redis::url::RedisUrl;

fuzz_target!(|text: &str| {
    match RedisUrl::parse(text) {
        Ok(read) => {
            let plain = RedisUrl { username: None, password: None, ..read };
            assert_eq!(RedisUrl::parse(&plain.to_string()), Ok(plain));
        }
        Err(error) => assert!(!error.help().is_empty()),
    }
});
