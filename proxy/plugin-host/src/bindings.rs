//! What `weir:policy` looks like from the host's side, made of the one definition in `plugin-sdk/wit`.

wasmtime::component::bindgen!({
    path: "../../plugin-sdk/wit",
    world: "all",
    ownership: Borrowing { duplicate_if_necessary: true },
});
