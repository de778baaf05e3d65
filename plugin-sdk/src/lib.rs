//! Caching policy for Weir, written in Rust and run as WebAssembly.
//!
//! A plugin is a plain struct. [`Plugin`] makes it from the operator's configuration and says what it reads; each hook is a trait of its own, and what is
//! not implemented does not exist:
//!
//! | trait | says | when |
//! |---|---|---|
//! | [`PlanHook`] | a key that the host makes by itself | once |
//! | [`RequestHook`] | whether the cache is used, and which requests are the same | before the lookup |
//! | [`ResponseHook`] | whether and how a response is stored | after the head of the origin's response |
//! | [`InvalidateHook`] | what a write makes stale | after a response without an error to an unsafe method |
//! | [`RateHook`] | what a request costs | before the lookup |
//!
//! All of it runs natively too: [`testing`] makes requests and stands in for the host, so `cargo test` needs no WebAssembly toolchain.
//!
//! ```
//! use serde::Deserialize;
//! use weir_plugin::{Error, Manifest, Plugin, Request, RequestDecision, RequestHook};
//!
//! /// Shares pages among visitors of the same price zone.
//! struct PriceZone {
//!     zones: Vec<String>,
//! }
//!
//! #[derive(Deserialize)]
//! #[serde(deny_unknown_fields)]
//! struct Config {
//!     zones: Vec<String>,
//! }
//!
//! impl Plugin for PriceZone {
//!     type Config = Config;
//!
//!     fn new(config: Config) -> Result<Self, Error> {
//!         if config.zones.is_empty() {
//!             return Err("`zones` names none".into());
//!         }
//!         Ok(Self { zones: config.zones })
//!     }
//!
//!     fn manifest(&self) -> Manifest {
//!         Manifest::new().cookie("zone").pure()
//!     }
//! }
//!
//! impl RequestHook for PriceZone {
//!     fn on_request(&self, request: &Request) -> Result<RequestDecision, Error> {
//!         let known = request.cookie("zone").filter(|zone| self.zones.iter().any(|known| known == zone));
//!         Ok(match known {
//!             Some(zone) => RequestDecision::lookup().variant(zone).forward_cookies(["zone"]),
//!             // The origin gives it one, in an answer that nobody shares.
//!             None => RequestDecision::bypass(),
//!         })
//!     }
//! }
//!
//! weir_plugin::export!(PriceZone: request);
//!
//! # fn main() {
//! use weir_plugin::testing::{self, Tested};
//!
//! let plugin = Tested::<PriceZone>::new(serde_json::json!({ "zones": ["eu", "us"] })).unwrap();
//! let decision = plugin.on_request(&testing::get("/prices").cookie("zone", "eu").cookie("_ga", "1")).unwrap();
//! assert_eq!(decision.variants, ["eu"]);
//! # }
//! ```
//!
//! # Rules that make a plugin safe and fast
//!
//! 1. **What a key ignores is not forwarded**: [`RequestDecision::forward_query`], [`RequestDecision::forward_cookies`].
//! 2. **In doubt, bypass.** An error does that as well, and tells the operator.
//! 3. **Read little.** What is remembered is remembered by exactly the declared inputs: [`Manifest::cookie_names`] instead of values, single parameters instead of the query.
//! 4. **Keep nothing between calls.** Instances are many and short-lived. [`RequestDecision::carry`] links the hooks of one request, [`state`] links requests.
//! 5. **A panic is an error** with its text in the log, and costs a new instance. Return [`Error`] instead.

#[cfg(any(test, all(target_arch = "wasm32", feature = "arena")))]
mod arena;
mod decision;
mod error;
mod manifest;
mod request;

pub mod config;
pub mod control;
pub mod digest;
pub mod glob;
pub mod host;
pub mod path;
pub mod query;
pub mod state;
pub mod testing;
pub mod text;

#[cfg(target_arch = "wasm32")]
#[doc(hidden)]
pub mod guest;

pub use decision::{
    CacheMode, Charge, ForwardCookies, ForwardQuery, KeyPlan, Purge, PurgeTarget, RequestDecision,
    ResponseDecision, StoreDecision, StorePolicy,
};
pub use error::Error;
pub use manifest::{Input, Manifest, NameFilter};
pub use request::{Request, Response};

#[doc(hidden)]
pub use manifest::Declared;

/// A plugin: made once for each instance, before anything else. See the [crate's page](crate) for a whole one.
pub trait Plugin: Sized + 'static {
    /// The operator's configuration: any TOML that serde reads into it. `#[serde(deny_unknown_fields)]` catches the operator's typing errors.
    /// [`NoConfig`] for a plugin without any.
    type Config: serde::de::DeserializeOwned;

    /// Makes the plugin. An error refuses the configuration with its text; what ran before goes on.
    fn new(config: Self::Config) -> Result<Self, Error>;

    /// What it reads. The same for the same configuration.
    fn manifest(&self) -> Manifest;
}

/// Makes a key that the host computes by itself: as fast as no plugin.
///
/// ```
/// # use weir_plugin::{Error, KeyPlan, Manifest, NoConfig, PlanHook, Plugin};
/// # struct Sorted;
/// # impl Plugin for Sorted {
/// #     type Config = NoConfig;
/// #     fn new(_: NoConfig) -> Result<Self, Error> { Ok(Self) }
/// #     fn manifest(&self) -> Manifest { Manifest::new() }
/// # }
/// impl PlanHook for Sorted {
///     fn plan(&self) -> Result<Option<KeyPlan>, Error> {
///         Ok(Some(KeyPlan::new().drop_params(["utm_*"]).sort_params()))
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is exported with the hook `plan`, but does not implement `PlanHook`"
)]
pub trait PlanHook: Plugin {
    /// The plan. `None`: this configuration asks for more than a plan can say; the request hook is called.
    fn plan(&self) -> Result<Option<KeyPlan>, Error>;
}

/// Decides before the lookup. See the [crate's page](crate) for an example.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is exported with the hook `request`, but does not implement `RequestHook`"
)]
pub trait RequestHook: Plugin {
    /// Whether the cache is used, and which requests are the same. After an error the request passes the cache, unless the operator chose otherwise.
    fn on_request(&self, request: &Request) -> Result<RequestDecision, Error>;
}

/// Decides what is stored, when the head of the origin's response is there.
///
/// ```
/// # use weir_plugin::{Error, Manifest, NoConfig, Plugin, Request, Response, ResponseDecision, ResponseHook, StorePolicy};
/// # struct Tags;
/// # impl Plugin for Tags {
/// #     type Config = NoConfig;
/// #     fn new(_: NoConfig) -> Result<Self, Error> { Ok(Self) }
/// #     fn manifest(&self) -> Manifest { Manifest::new().path() }
/// # }
/// impl ResponseHook for Tags {
///     fn on_response(&self, request: &Request, _: Option<&str>, response: &Response) -> Result<ResponseDecision, Error> {
///         if !response.is_success() {
///             return Ok(ResponseDecision::default());
///         }
///         let section = request.path().split('/').nth(1).unwrap_or_default();
///         Ok(ResponseDecision::store(StorePolicy::new().tag(format!("section:{section}"))))
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is exported with the hook `response`, but does not implement `ResponseHook`"
)]
pub trait ResponseHook: Plugin {
    /// Whether and how it is stored. `carry` is what the request hook handed on. After an error nothing is stored, unless the operator chose otherwise.
    fn on_response(
        &self,
        request: &Request,
        carry: Option<&str>,
        response: &Response,
    ) -> Result<ResponseDecision, Error>;
}

/// Decides what a write makes stale, after a response without an error to an unsafe method.
///
/// ```
/// # use weir_plugin::{Error, InvalidateHook, Manifest, NoConfig, Plugin, Purge, Request, Response};
/// # struct Posts;
/// # impl Plugin for Posts {
/// #     type Config = NoConfig;
/// #     fn new(_: NoConfig) -> Result<Self, Error> { Ok(Self) }
/// #     fn manifest(&self) -> Manifest { Manifest::new().path() }
/// # }
/// impl InvalidateHook for Posts {
///     fn on_write(&self, request: &Request, _: Option<&str>, _: &Response) -> Result<Vec<Purge>, Error> {
///         Ok(match request.path().strip_prefix("/posts/") {
///             Some(id) => vec![Purge::tag("posts"), Purge::tag(format!("post:{id}"))],
///             None => vec![],
///         })
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is exported with the hook `invalidate`, but does not implement `InvalidateHook`"
)]
pub trait InvalidateHook: Plugin {
    /// What is purged. After an error the URL and, softly, all of the route is, unless the operator chose otherwise.
    fn on_write(
        &self,
        request: &Request,
        carry: Option<&str>,
        response: &Response,
    ) -> Result<Vec<Purge>, Error>;
}

/// Decides what a request costs.
///
/// ```
/// # use weir_plugin::{Charge, Error, Manifest, NoConfig, Plugin, RateHook, Request};
/// # struct PerKey;
/// # impl Plugin for PerKey {
/// #     type Config = NoConfig;
/// #     fn new(_: NoConfig) -> Result<Self, Error> { Ok(Self) }
/// #     fn manifest(&self) -> Manifest { Manifest::new().path().header("x-api-key").bucket("api").pure() }
/// # }
/// impl RateHook for PerKey {
///     fn charge(&self, request: &Request) -> Result<Vec<Charge>, Error> {
///         let cost = if request.path().starts_with("/export") { 20 } else { 1 };
///         Ok(vec![Charge::new("api", request.header("x-api-key").unwrap_or("anonymous")).cost(cost)])
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is exported with the hook `rate`, but does not implement `RateHook`"
)]
pub trait RateHook: Plugin {
    /// What is charged. After an error it is one for the client's address, unless the operator chose otherwise.
    fn charge(&self, request: &Request) -> Result<Vec<Charge>, Error>;
}

/// The configuration of a plugin that has none: anything in it is a mistake.
///
/// ```
/// assert!(weir_plugin::config::parse::<weir_plugin::NoConfig>("{}").is_ok());
/// assert!(weir_plugin::config::parse::<weir_plugin::NoConfig>(r#"{"a":1}"#).is_err());
/// ```
#[derive(Debug, Clone, Copy, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoConfig {}

fn milliseconds(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Makes a plugin of a struct: `export!(MyPlugin: request, response);` at the end of its `lib.rs`.
///
/// After the colon stand the hooks: `plan`, `request`, `response`, `invalidate`, `rate`. One that is listed and not implemented does not compile, and neither does one
/// that is implemented and not listed: a hook that is never called would be a policy that nobody follows.
///
/// ```
/// # use weir_plugin::{Error, KeyPlan, Manifest, NoConfig, PlanHook, Plugin};
/// struct Sorted;
///
/// impl Plugin for Sorted {
///     type Config = NoConfig;
///     fn new(_: NoConfig) -> Result<Self, Error> { Ok(Self) }
///     fn manifest(&self) -> Manifest { Manifest::new() }
/// }
///
/// impl PlanHook for Sorted {
///     fn plan(&self) -> Result<Option<KeyPlan>, Error> { Ok(Some(KeyPlan::new().sort_params())) }
/// }
///
/// weir_plugin::export!(Sorted: plan);
/// # fn main() {}
/// ```
///
/// ```compile_fail
/// # use weir_plugin::{Error, KeyPlan, Manifest, NoConfig, PlanHook, Plugin};
/// # struct Sorted;
/// # impl Plugin for Sorted {
/// #     type Config = NoConfig;
/// #     fn new(_: NoConfig) -> Result<Self, Error> { Ok(Self) }
/// #     fn manifest(&self) -> Manifest { Manifest::new() }
/// # }
/// # impl PlanHook for Sorted {
/// #     fn plan(&self) -> Result<Option<KeyPlan>, Error> { Ok(Some(KeyPlan::new().sort_params())) }
/// # }
/// weir_plugin::export!(Sorted:); // `Sorted` implements `PlanHook`: list `plan`
/// # fn main() {}
/// ```
///
/// ```compile_fail
/// # use weir_plugin::{Error, Manifest, NoConfig, Plugin};
/// # struct Nothing;
/// # impl Plugin for Nothing {
/// #     type Config = NoConfig;
/// #     fn new(_: NoConfig) -> Result<Self, Error> { Ok(Self) }
/// #     fn manifest(&self) -> Manifest { Manifest::new() }
/// # }
/// weir_plugin::export!(Nothing: rate); // `Nothing` does not implement `RateHook`
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! export {
    ($plugin:ident: $($hook:ident),* $(,)?) => {
        const _: () = {
            use $crate::checked::{NotImplemented as _, Of};

            const LISTED: &[&str] = &[$(stringify!($hook)),*];
            const fn lists(hook: &str) -> bool {
                $crate::checked::lists(LISTED, hook)
            }
            assert!(lists("plan") || !Of::<$plugin>::PLAN, "`PlanHook` is implemented: list `plan`");
            assert!(lists("request") || !Of::<$plugin>::REQUEST, "`RequestHook` is implemented: list `request`");
            assert!(lists("response") || !Of::<$plugin>::RESPONSE, "`ResponseHook` is implemented: list `response`");
            assert!(lists("invalidate") || !Of::<$plugin>::INVALIDATE, "`InvalidateHook` is implemented: list `invalidate`");
            assert!(lists("rate") || !Of::<$plugin>::RATE, "`RateHook` is implemented: list `rate`");
            $($crate::__implements!($hook $plugin);)*
        };

        $crate::__guest!($plugin: $($hook)*);
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __implements {
    (plan $plugin:ident) => {
        $crate::checked::plan::<$plugin>()
    };
    (request $plugin:ident) => {
        $crate::checked::request::<$plugin>()
    };
    (response $plugin:ident) => {
        $crate::checked::response::<$plugin>()
    };
    (invalidate $plugin:ident) => {
        $crate::checked::invalidate::<$plugin>()
    };
    (rate $plugin:ident) => {
        $crate::checked::rate::<$plugin>()
    };
    ($other:ident $plugin:ident) => {
        compile_error!(concat!(
            "`",
            stringify!($other),
            "` is no hook: plan, request, response, invalidate, rate"
        ))
    };
}

#[doc(hidden)]
#[cfg(not(target_arch = "wasm32"))]
#[macro_export]
macro_rules! __guest {
    ($($ignored:tt)*) => {};
}

/// Which hooks a plugin implements, for `export!`.
#[doc(hidden)]
pub mod checked {
    use std::marker::PhantomData;

    use crate::{InvalidateHook, PlanHook, RateHook, RequestHook, ResponseHook};

    /// Its constants are those of its own where the trait is implemented, and those of [`NotImplemented`] where not.
    pub struct Of<P>(PhantomData<P>);

    pub trait NotImplemented {
        const PLAN: bool = false;
        const REQUEST: bool = false;
        const RESPONSE: bool = false;
        const INVALIDATE: bool = false;
        const RATE: bool = false;
    }

    impl<P> NotImplemented for Of<P> {}

    impl<P: PlanHook> Of<P> {
        pub const PLAN: bool = true;
    }

    impl<P: RequestHook> Of<P> {
        pub const REQUEST: bool = true;
    }

    impl<P: ResponseHook> Of<P> {
        pub const RESPONSE: bool = true;
    }

    impl<P: InvalidateHook> Of<P> {
        pub const INVALIDATE: bool = true;
    }

    impl<P: RateHook> Of<P> {
        pub const RATE: bool = true;
    }

    pub const fn plan<P: PlanHook>() {}
    pub const fn request<P: RequestHook>() {}
    pub const fn response<P: ResponseHook>() {}
    pub const fn invalidate<P: InvalidateHook>() {}
    pub const fn rate<P: RateHook>() {}

    pub const fn lists(listed: &[&str], hook: &str) -> bool {
        let mut at = 0;
        while at < listed.len() {
            if same(listed[at].as_bytes(), hook.as_bytes()) {
                return true;
            }
            at += 1;
        }
        false
    }

    const fn same(one: &[u8], other: &[u8]) -> bool {
        if one.len() != other.len() {
            return false;
        }
        let mut at = 0;
        while at < one.len() {
            if one[at] != other[at] {
                return false;
            }
            at += 1;
        }
        true
    }
}
