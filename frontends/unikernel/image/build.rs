//! Tells the linker how the image is laid out.

fn main() {
    println!("cargo:rerun-if-changed=image.ld");
    println!("cargo:rerun-if-changed=src/boot.s");
    if std::env::var_os("CARGO_CFG_UNIX").is_some() {
        return;
    }
    let here = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
    println!("cargo:rustc-link-arg-bins=-T{here}/image.ld");
    // Comes from defmt's own build script.
    println!("cargo:rustc-link-arg-bins=-Tdefmt.x");
}
