//! The component's side: what the host calls, and what it offers. Only built for WebAssembly; `export!` alone uses it.

#[expect(clippy::all, missing_docs, unreachable_pub, reason = "generated")]
#[expect(clippy::undocumented_unsafe_blocks, reason = "generated")]
#[rustfmt::skip]
pub mod bindings;

pub(crate) mod calls;

use std::time::Duration;

use crate::manifest::{Declared, Input, Manifest};
use crate::{
    CacheMode, Charge, Error, ForwardCookies, ForwardQuery, InvalidateHook, KeyPlan, PlanHook, Plugin, Purge,
    PurgeTarget, RateHook, RequestDecision, RequestHook, ResponseHook, StoreDecision, StorePolicy,
};

pub use bindings::exports::weir::policy as exports;
pub use bindings::weir::policy::types as wire;

/// A plugin that was configured.
pub struct Configured<P> {
    plugin: P,
    declared: Declared,
}

/// What `export!` makes of a plugin.
pub trait Exported {
    type Plugin: Plugin;

    const NAME: &'static str;
    const VERSION: &'static str;

    /// The instance's own plugin; `None` before it was configured.
    fn with<T>(act: impl FnOnce(&std::cell::OnceCell<Configured<Self::Plugin>>) -> T) -> T;
}

pub fn configure<E: Exported>(config: &str) -> Result<wire::Manifest, Error> {
    std::panic::set_hook(Box::new(|panic| {
        crate::host::log(crate::host::Level::Error, format_args!("{panic}"));
    }));
    let plugin = E::Plugin::new(crate::config::parse(config)?)?;
    let manifest = plugin.manifest();
    let configured = Configured { plugin, declared: manifest.shared() };
    if E::with(|cell| cell.set(configured)).is_err() {
        return Err("configured twice".into());
    }
    let Manifest { inputs, response_headers, pure, buckets } = manifest;
    let inputs = inputs.into_iter().map(input).collect();
    let (name, version) = (E::NAME.to_owned(), E::VERSION.to_owned());
    Ok(wire::Manifest { name, version, inputs, response_headers, pure, buckets })
}

pub fn plan<E: Exported<Plugin: PlanHook>>() -> Result<Option<exports::plan_hook::KeyPlan>, Error> {
    let plan = configured::<E, _>(|configured| configured.plugin.plan())?;
    Ok(plan.map(|plan| {
        let KeyPlan { lower_path, keep, drop, sort, headers, cookies, session } = plan;
        let query = exports::plan_hook::QueryPlan { keep, drop, sort };
        exports::plan_hook::KeyPlan { lower_path, query, headers, cookies, session }
    }))
}

pub fn on_request<E: Exported<Plugin: RequestHook>>(
    given: wire::Request,
) -> Result<wire::RequestDecision, Error> {
    let decision =
        configured::<E, _>(|configured| configured.plugin.on_request(&request(configured, given)))?;
    let RequestDecision { mode, key, variants, query, cookies, carry, remember_for } = decision;
    let mode = match mode {
        CacheMode::Lookup => wire::CacheMode::Lookup,
        CacheMode::Bypass => wire::CacheMode::Bypass,
        CacheMode::Refresh => wire::CacheMode::Refresh,
    };
    let forward = match (query, cookies) {
        (ForwardQuery::AsRouted, ForwardCookies::AsRouted) => None,
        (query, cookies) => Some(wire::Forward {
            query: match query {
                ForwardQuery::AsRouted => wire::ForwardQuery::AsRouted,
                ForwardQuery::Exactly(query) => wire::ForwardQuery::Exactly(query),
            },
            cookies: match cookies {
                ForwardCookies::AsRouted => wire::ForwardCookies::AsRouted,
                ForwardCookies::Only(names) => wire::ForwardCookies::Only(names),
            },
        }),
    };
    Ok(wire::RequestDecision { mode, key, variants, forward, carry, remember_ms: milliseconds(remember_for) })
}

pub fn on_response<E: Exported<Plugin: ResponseHook>>(
    given: wire::Request,
    carry: Option<&str>,
    answer: wire::Response,
) -> Result<wire::StoreDecision, Error> {
    let decision = configured::<E, _>(|configured| {
        let (request, response) = (request(configured, given), response(configured, answer));
        configured.plugin.on_response(&request, carry, &response)
    })?;
    Ok(match decision.store {
        StoreDecision::Default => wire::StoreDecision::Default,
        StoreDecision::Store(policy) => wire::StoreDecision::Store(store_policy(policy)),
        StoreDecision::NoStore => wire::StoreDecision::NoStore,
        StoreDecision::HitForPass(time) => wire::StoreDecision::HitForPass(crate::milliseconds(time)),
    })
}

pub fn on_write<E: Exported<Plugin: InvalidateHook>>(
    given: wire::Request,
    carry: Option<&str>,
    answer: wire::Response,
) -> Result<Vec<wire::Purge>, Error> {
    let purges = configured::<E, _>(|configured| {
        let (request, response) = (request(configured, given), response(configured, answer));
        configured.plugin.on_write(&request, carry, &response)
    })?;
    Ok(purges.into_iter().map(purge).collect())
}

pub fn charge<E: Exported<Plugin: RateHook>>(given: wire::Request) -> Result<Vec<wire::RateCharge>, Error> {
    let charges = configured::<E, _>(|configured| configured.plugin.charge(&request(configured, given)))?;
    Ok(charges
        .into_iter()
        .map(|Charge { bucket, key, cost }| wire::RateCharge { bucket, key, cost })
        .collect())
}

fn configured<E: Exported, T>(
    act: impl FnOnce(&Configured<E::Plugin>) -> Result<T, Error>,
) -> Result<T, Error> {
    let said = E::with(|cell| act(cell.get().ok_or("called before it was configured")?));
    // From the second call on: what the first one has made for good lies where things stay.
    #[cfg(feature = "arena")]
    ALLOCATOR.begin(ARENA_BYTES);
    said
}

/// More than a call takes with fields and cookies as they are; what does not fit is allocated as ever.
#[cfg(feature = "arena")]
const ARENA_BYTES: usize = 32 * 1024;

#[cfg(feature = "arena")]
#[global_allocator]
static ALLOCATOR: crate::arena::Arena<std::alloc::System> = crate::arena::Arena::new(std::alloc::System);

fn request<P>(configured: &Configured<P>, given: wire::Request) -> crate::Request {
    configured.declared.request(given.inputs)
}

fn response<P>(configured: &Configured<P>, given: wire::Response) -> crate::Response {
    configured.declared.response(given.status, given.headers, given.content_length)
}

fn input(input: Input) -> wire::Input {
    match input {
        Input::Method => wire::Input::Method,
        Input::Scheme => wire::Input::Scheme,
        Input::Authority => wire::Input::Authority,
        Input::Path => wire::Input::Path,
        Input::Query => wire::Input::Query,
        Input::Route => wire::Input::Route,
        Input::Header(name) => wire::Input::Header(name),
        Input::Cookie(name) => wire::Input::Cookie(name),
        Input::CookieNames(filter) => wire::Input::CookieNames(wire::NameFilter {
            only: filter.patterns().to_vec(),
            except: filter.exceptions().to_vec(),
        }),
        Input::QueryParam(name) => wire::Input::QueryParam(name),
        Input::Session(name) => wire::Input::Session(name),
        Input::ClientIp => wire::Input::ClientIp,
        Input::TlsSni => wire::Input::TlsSni,
        Input::BodyJson(pointer) => wire::Input::BodyJson(pointer),
        Input::BodyDigest => wire::Input::BodyDigest,
    }
}

fn store_policy(policy: StorePolicy) -> wire::StorePolicy {
    let StorePolicy { ttl, stale_while_revalidate, stale_if_error, tags, vary, strip_headers } = policy;
    wire::StorePolicy {
        ttl_ms: milliseconds(ttl),
        stale_while_revalidate_ms: milliseconds(stale_while_revalidate),
        stale_if_error_ms: milliseconds(stale_if_error),
        tags,
        vary,
        strip_headers,
    }
}

pub(crate) fn purge(Purge { target, soft }: Purge) -> wire::Purge {
    let target = match target {
        PurgeTarget::Tag(tag) => wire::PurgeTarget::Tag(tag),
        PurgeTarget::TagGlob(glob) => wire::PurgeTarget::TagGlob(glob),
        PurgeTarget::Key(key) => wire::PurgeTarget::Key(key),
        PurgeTarget::PathPrefix(prefix) => wire::PurgeTarget::PathPrefix(prefix),
        PurgeTarget::Route => wire::PurgeTarget::Route,
    };
    wire::Purge { target, mode: if soft { wire::PurgeMode::Soft } else { wire::PurgeMode::Hard } }
}

fn milliseconds(time: Option<Duration>) -> Option<u64> {
    time.map(crate::milliseconds)
}

/// Exports the lifecycle and the listed hooks of a plugin.
#[doc(hidden)]
#[macro_export]
macro_rules! __guest {
    ($plugin:ident: $($hook:ident)*) => {
        #[doc(hidden)]
        #[allow(unsafe_code, missing_docs, unreachable_pub, reason = "the component's ABI")]
        mod __weir_guest {
            use ::std::cell::OnceCell;
            use $crate::guest::{self, Configured, Exported, exports, wire};

            struct Guest;

            impl Exported for Guest {
                type Plugin = super::$plugin;

                const NAME: &'static str = ::core::env!("CARGO_PKG_NAME");
                const VERSION: &'static str = ::core::env!("CARGO_PKG_VERSION");

                fn with<T>(act: impl FnOnce(&OnceCell<Configured<super::$plugin>>) -> T) -> T {
                    ::std::thread_local! {
                        static CONFIGURED: OnceCell<Configured<super::$plugin>> = const { OnceCell::new() };
                    }
                    CONFIGURED.with(act)
                }
            }

            impl exports::lifecycle::Guest for Guest {
                fn configure(config: String) -> Result<wire::Manifest, String> {
                    guest::configure::<Guest>(&config).map_err(String::from)
                }
            }
            $crate::__guest_export!(lifecycle "component-type:weir:lifecycle" LIFECYCLE __export_weir_policy_lifecycle_0_1_0_cabi);
            $($crate::__guest_hook!($hook);)*
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __guest_hook {
    (plan) => {
        impl exports::plan_hook::Guest for Guest {
            fn plan() -> Result<Option<exports::plan_hook::KeyPlan>, String> {
                guest::plan::<Guest>().map_err(String::from)
            }
        }
        $crate::__guest_export!(plan_hook "component-type:weir:plan-hook" PLAN_HOOK __export_weir_policy_plan_hook_0_1_0_cabi);
    };
    (request) => {
        impl exports::request_hook::Guest for Guest {
            fn on_request(request: wire::Request) -> Result<wire::RequestDecision, String> {
                guest::on_request::<Guest>(request).map_err(String::from)
            }
        }
        $crate::__guest_export!(request_hook "component-type:weir:request-hook" REQUEST_HOOK __export_weir_policy_request_hook_0_1_0_cabi);
    };
    (response) => {
        impl exports::response_hook::Guest for Guest {
            fn on_response(
                request: wire::Request,
                carry: Option<String>,
                response: wire::Response,
            ) -> Result<wire::StoreDecision, String> {
                guest::on_response::<Guest>(request, carry.as_deref(), response).map_err(String::from)
            }
        }
        $crate::__guest_export!(response_hook "component-type:weir:response-hook" RESPONSE_HOOK __export_weir_policy_response_hook_0_1_0_cabi);
    };
    (invalidate) => {
        impl exports::invalidate_hook::Guest for Guest {
            fn on_write(
                request: wire::Request,
                carry: Option<String>,
                response: wire::Response,
            ) -> Result<Vec<wire::Purge>, String> {
                guest::on_write::<Guest>(request, carry.as_deref(), response).map_err(String::from)
            }
        }
        $crate::__guest_export!(invalidate_hook "component-type:weir:invalidate-hook" INVALIDATE_HOOK __export_weir_policy_invalidate_hook_0_1_0_cabi);
    };
    (rate) => {
        impl exports::rate_hook::Guest for Guest {
            fn charge(request: wire::Request) -> Result<Vec<wire::RateCharge>, String> {
                guest::charge::<Guest>(request).map_err(String::from)
            }
        }
        $crate::__guest_export!(rate_hook "component-type:weir:rate-hook" RATE_HOOK __export_weir_policy_rate_hook_0_1_0_cabi);
    };
}

/// The exported functions of one interface, and the section that says their types.
#[doc(hidden)]
#[macro_export]
macro_rules! __guest_export {
    ($interface:ident $section:literal $types:ident $export:ident) => {
        $crate::guest::exports::$interface::$export!(Guest with_types_in $crate::guest::exports::$interface);

        const _: () = {
            #[unsafe(link_section = $section)]
            pub static TYPES: [u8; $crate::guest::bindings::sections::$types.len()] =
                *$crate::guest::bindings::sections::$types;
        };
    };
}
