//! What must hold for an object that the compiler of an ordinary program made and that runs in a kernel.

use crate::command::Cmd;
use anyhow::{Result, bail};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::Path,
};

/// Symbols that the object may take from the kernel and the shim.
const ALLOWED_SYMBOLS: &[&str] = &[
    "memcpy",
    "memmove",
    "memset",
    "memcmp",
    "bcmp",
    "__x86_return_thunk",
    "cvsw_panicked",
    "cvsw_keys_want",
    "cvsw_keys_retire",
    "cvsw_keys_crypt",
    "cvsw_keys_prepare",
];
/// Functions that refer to `core::panicking`, and why that is never reached.
const PANICS: &[(&str, &str)] = &[
    (
        "aes::backends::soft::fixslice::utils::memshift32",
        "the key schedule copies inside an array of fixed size, by offsets that its own loop counts",
    ),
    (
        "<cvsw_core::control::v3::keys::ControlKeys>::unwrap",
        "aes-kw takes the wrapped key apart by blocks of 8 bytes, of which it has checked before that there are enough",
    ),
];
/// Largest stack frame of one function in bytes.
const FRAME_LIMIT: u32 = 2048;
/// Deepest call chain of the object in bytes: an eighth of a kernel stack, of which others may have used much already.
const CHAIN_LIMIT: u32 = 2048;
/// The same of the whole module, until it calls the kernel: with the shim above the engine, and below it.
const MODULE_CHAIN_LIMIT: u32 = 2560;
/// A call by a pointer.
const INDIRECT_CALL: &str = "__x86_indirect_thunk";
/// Functions of the shim that call by a pointer, and how the names of those begin that it leads to; none: out of the module.
const INDIRECT: &[(&str, &[&str])] = &[
    ("cvsw_doit", &["cvsw_run_"]),
    ("cvsw_run_stats_get", &["cvsw_get_"]),
    // Who frees what a frame is charged to.
    ("cvsw_queue_control", &[]),
    // An algorithm of the crypto API.
    ("cvsw_mac", &[]),
];
const UNKNOWN_FRAME: &str = "a stack frame whose size is not known";
/// What packets go through.
const PACKET_PATH: &str = "cvsw_engine_burst";
/// What a call with packets never reaches, since the shim sorts control frames of the network out before it
/// (`cvsw_frame_is_control`, the engine's own test): they go to `cvsw_engine_control`.
const CONTROL_PATH: &str = ">::control::<";

/// Size and stack use of the object.
pub struct Report {
    functions: usize,
    frames: Vec<(u32, String)>,
    chains: Vec<(u32, String)>,
    /// Listed functions that refer to `core::panicking`.
    panics: Vec<String>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "object: {} functions; no SIMD, red zone, bare return, indirect branch or GOT",
            self.functions
        )?;
        match &self.panics[..] {
            [] => writeln!(f, "no reference to core::panicking")?,
            some => {
                writeln!(f, "core::panicking: referred to (never called, see the list) by {}", some.join(", "))?
            }
        }
        let list = |f: &mut fmt::Formatter<'_>, what: &str, sizes: &[(u32, String)]| {
            writeln!(f, "{what} (bytes):")?;
            sizes.iter().take(8).try_for_each(|(size, name)| writeln!(f, "  {size:>5}  {name}"))
        };
        list(f, "largest stack frames", &self.frames)?;
        list(f, "deepest call chains, with the portable ciphers", &self.chains)
    }
}

/// Checks the object; the error lists everything that is wrong.
pub fn check(object: &Path) -> Result<Report> {
    let code = Cmd::new("objdump").words("-dr -C --no-show-raw-insn").arg(object).read()?;
    let undefined = Cmd::new("nm").words("--undefined-only --format=just-symbols").arg(object).read()?;
    let disassembly = Disassembly::parse(&code);
    let mut faults = disassembly.faults.clone();
    faults.extend(disassembly.panics().1);
    faults.extend(
        undefined
            .lines()
            .filter(|symbol| !ALLOWED_SYMBOLS.contains(symbol))
            .map(|symbol| format!("unexpected undefined symbol {symbol}")),
    );
    let report = disassembly.report();
    faults.extend(disassembly.too_deep(&report));
    if !disassembly.functions.contains_key(PACKET_PATH) {
        faults.push(format!("there is no function {PACKET_PATH}"));
    }
    if disassembly.functions.is_empty() {
        faults.push("no code at all".to_owned());
    }
    if !faults.is_empty() {
        faults.truncate(20);
        bail!("{} is not fit for the kernel:\n  {}", object.display(), faults.join("\n  "));
    }
    Ok(report)
}

/// The stack that the whole module uses, shim and engine: its deepest call chains. An error if one is too deep, or unknown.
pub fn check_module(module: &Path) -> Result<Vec<(u32, String)>> {
    let code = Cmd::new("objdump").words("-dr -C --no-show-raw-insn").arg(module).read()?;
    let (chains, faults) = Disassembly::parse(&code).module_chains();
    if !faults.is_empty() {
        bail!("{} is not fit for the kernel's stack:\n  {}", module.display(), faults.join("\n  "));
    }
    Ok(chains)
}

#[derive(Default)]
struct Function {
    /// Bytes of stack, with the return address.
    frame: u32,
    calls: BTreeSet<String>,
}

#[derive(Default)]
struct Disassembly {
    functions: BTreeMap<String, Function>,
    /// `section@address` to name: calls into another section are known by place.
    places: BTreeMap<String, String>,
    /// Names that more than one function has.
    doubles: Vec<String>,
    faults: Vec<String>,
}

impl Disassembly {
    fn parse(code: &str) -> Self {
        let mut this = Self::default();
        let (mut name, mut section) = (String::new(), "");
        for line in code.lines() {
            if let Some(title) = line.strip_prefix("Disassembly of section ") {
                section = title.trim_end_matches(':');
            } else if let Some(label) = line.strip_suffix(">:").and_then(|line| line.split_once(" <")) {
                name = label.1.to_owned();
                let double = this.functions.insert(name.clone(), Function { frame: 8, ..Function::default() });
                this.doubles.extend(double.map(|_| name.clone()));
                if let Ok(address) = i64::from_str_radix(label.0, 16) {
                    this.places.insert(format!("{section}@{address}"), name.clone());
                }
            } else if let Some(function) = this.functions.get_mut(&name)
                && let Some(fault) = instruction(line, &name, function)
            {
                this.faults.push(format!("{fault} in {name}: {}", line.trim()));
            }
        }
        this
    }

    fn report(&self) -> Report {
        let mut frames: Vec<_> =
            self.functions.iter().map(|(name, function)| (function.frame, name.clone())).collect();
        let entries = self.functions.keys().filter(|name| name.starts_with("cvsw_") && !name.contains("::"));
        let mut chains: Vec<_> = entries.map(|name| (self.depth(name), name.clone())).collect();
        for sizes in [&mut frames, &mut chains] {
            sizes.sort_by(|a, b| b.cmp(a));
        }
        let panics = self.panics().0;
        Report { functions: self.functions.len(), frames, chains, panics }
    }

    /// What uses too much stack.
    fn too_deep(&self, report: &Report) -> Vec<String> {
        let frames = report.frames.iter().filter(|(size, _)| *size > FRAME_LIMIT);
        let frames = frames
            .map(|(size, name)| format!("the stack frame of {name} has {size} bytes, more than {FRAME_LIMIT}"));
        let chains = self.too_deep_chains(&report.chains, CHAIN_LIMIT);
        frames.chain(chains).collect()
    }

    fn too_deep_chains(&self, chains: &[(u32, String)], limit: u32) -> Vec<String> {
        let chains = chains.iter().filter(|(size, _)| *size > limit).map(|(size, name)| {
            let calls = self.deepest(name, false, &mut BTreeSet::new());
            let calls: Vec<_> = calls.iter().map(|(frame, name)| format!("{frame:>8}  {name}")).collect();
            let calls = calls.join("\n");
            format!("the call chain from {name} has {size} bytes, more than {limit}:\n{calls}")
        });
        chains.collect()
    }

    /// The call chains of all functions of a module, and what is wrong with them. How else the shim is compiled is the kernel's
    /// business.
    fn module_chains(mut self) -> (Vec<(u32, String)>, Vec<String>) {
        let mut faults: Vec<_> =
            self.faults.iter().filter(|fault| fault.starts_with(UNKNOWN_FRAME)).cloned().collect();
        faults.extend(self.doubles.iter().map(|name| format!("two functions have the name {name}")));
        let names: Vec<_> = self.functions.keys().cloned().collect();
        for (name, function) in &mut self.functions {
            if !function.calls.iter().any(|call| call.starts_with(INDIRECT_CALL)) {
                continue;
            }
            let Some((_, targets)) = INDIRECT.iter().find(|(known, _)| known == name) else {
                faults.push(format!("{name} calls by a pointer, and `INDIRECT` does not say where that leads"));
                continue;
            };
            let leads = |callee: &&String| targets.iter().any(|target| callee.starts_with(target));
            function.calls.extend(names.iter().filter(leads).cloned());
        }
        if !names.iter().any(|name| name == PACKET_PATH) {
            faults.push(format!("there is no function {PACKET_PATH}"));
        }
        let shim = names.iter().filter(|name| !name.contains("::"));
        let mut chains: Vec<_> = shim.map(|name| (self.depth(name), name.clone())).collect();
        chains.sort_by(|a, b| b.cmp(a));
        faults.extend(self.too_deep_chains(&chains, MODULE_CHAIN_LIMIT));
        (chains, faults)
    }

    /// Who refers to `core::panicking`: those on the list, and what is wrong with the others.
    fn panics(&self) -> (Vec<String>, Vec<String>) {
        // `core::result::unwrap_failed` and the like only lead there.
        let panicking =
            |name: &str| name.contains("core::panicking") || (name.starts_with("core::") && name.contains("_fail"));
        let name_of = |call: &str| self.places.get(call).map_or(call.to_owned(), Clone::clone);
        let callers = self.functions.iter().filter(|(name, function)| {
            !panicking(name) && function.calls.iter().any(|call| panicking(&name_of(call)))
        });
        let (listed, others): (Vec<_>, Vec<_>) = callers
            .map(|(name, _)| name.clone())
            .partition(|name| PANICS.iter().any(|(known, _)| name.contains(known)));
        let mut faults: Vec<_> = others.iter().map(|name| format!("{name} can panic")).collect();
        if listed.is_empty() && faults.is_empty() && self.functions.keys().any(|name| panicking(name)) {
            faults.push("core::panicking is linked in, and it is not clear for whom".to_owned());
        }
        (listed, faults)
    }

    /// Stack that a call may use, at most; recursion counts once.
    fn depth(&self, name: &str) -> u32 {
        self.deepest(name, false, &mut BTreeSet::new()).iter().map(|(frame, _)| frame).sum()
    }

    /// The call chain of that depth: stack frames and names, the innermost function first. `packets`: below the packet path, where
    /// the control path does not count.
    fn deepest(&self, name: &str, packets: bool, above: &mut BTreeSet<String>) -> Vec<(u32, String)> {
        let name = self.places.get(name).map_or(name, String::as_str);
        let Some(function) = self.functions.get(name) else { return Vec::new() };
        if packets && name.contains(CONTROL_PATH) || !above.insert(name.to_owned()) {
            return Vec::new();
        }
        let packets = packets || name == PACKET_PATH;
        let below = function.calls.iter().map(|call| self.deepest(call, packets, above));
        let mut chain =
            below.max_by_key(|chain| chain.iter().map(|(frame, _)| frame).sum::<u32>()).unwrap_or_default();
        above.remove(name);
        chain.push((function.frame, name.to_owned()));
        chain
    }
}

/// Adds what one line of code does to `function`; what is wrong with it, if anything.
fn instruction(line: &str, name: &str, function: &mut Function) -> Option<&'static str> {
    if let Some((_, relocation)) = line.split_once("R_X86_64_") {
        if let Some((kind, target)) = relocation.split_once(char::is_whitespace)
            // A function's address as such is no call.
            && !matches!(kind, "64" | "32" | "32S")
        {
            function.calls.insert(called(target));
            function.calls.extend(place(target));
        }
        return relocation.starts_with("GOT").then_some("a relocation by the global offset table");
    }
    let (_, text) = line.split_once('\t')?;
    let text = text.trim();
    let (operation, operands) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    match operation {
        "push" => function.frame += 8,
        // Of a size that is not known here, or beyond reason.
        "sub" | "add" if operands.ends_with(",%rsp") => match stack_growth(operation, operands) {
            Some(size) => function.frame += size,
            None => return Some(UNKNOWN_FRAME),
        },
        "lea" | "and" | "mov" | "or" if operands.ends_with(",%rsp") => {
            return Some(UNKNOWN_FRAME);
        }
        "call" | "jmp" => {
            if let Some((_, target)) = operands.split_once('<') {
                let target = called(target.strip_suffix('>').unwrap_or(target));
                if target != name {
                    function.calls.insert(target);
                }
            }
            if operands.trim_start().starts_with('*') {
                return Some("an indirect branch");
            }
        }
        "ret" | "retq" | "repz" | "lret" => return Some("a bare return"),
        _ => {}
    }
    if ["%xmm", "%ymm", "%zmm", "%mm", "%st"].iter().any(|register| operands.contains(register)) {
        return Some("a floating-point or vector register");
    }
    // With an index register it is an array in the stack frame; `lea` only computes where one would be.
    if operation != "lea"
        && operands.contains("(%rsp)")
        && operands.split(',').any(|one| one.trim().starts_with("-0x"))
    {
        return Some("an access below the stack pointer");
    }
    None
}

/// Bytes that `sub` or `add` of a constant takes from the stack, which grows downward; 0 if it gives some back.
fn stack_growth(operation: &str, operands: &str) -> Option<u32> {
    let digits = operands.trim().strip_prefix("$0x")?.strip_suffix(",%rsp")?;
    let constant = u64::from_str_radix(digits, 16).ok()?.cast_signed();
    let growth = if operation == "sub" { constant } else { constant.checked_neg()? };
    if growth.unsigned_abs() > 0xf_ffff {
        return None;
    }
    Some(u32::try_from(growth).unwrap_or(0))
}

/// `name+0x10` and `name-0x4` as `name`.
fn called(target: &str) -> String {
    let target = target.trim();
    let end = target.rfind("+0x").or_else(|| target.rfind("-0x")).unwrap_or(target.len());
    target[..end].to_owned()
}

/// `.text.unlikely.+0xc`, the target of a call relative to the end of the instruction, as `section@address`.
fn place(target: &str) -> Option<String> {
    let section = called(target);
    let offset = target.trim().strip_prefix(&section)?;
    let (sign, digits) =
        if let Some(digits) = offset.strip_prefix("-0x") { (-1, digits) } else { (1, offset.strip_prefix("+0x")?) };
    let address = sign * i64::from_str_radix(digits, 16).ok()? + 4;
    section.starts_with('.').then(|| format!("{section}@{address}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(code: &str) -> Vec<String> {
        Disassembly::parse(&format!("0000000000000000 <f>:\n{code}")).faults
    }

    #[test]
    fn planted_faults_are_found() {
        for (line, fault) in [
            ("   0:\tmovaps %xmm0,(%rdi)", "vector register"),
            ("   0:\tfld    %st(0)", "vector register"),
            ("   0:\tret", "bare return"),
            ("   0:\tjmp    *%rax", "indirect branch"),
            ("   0:\tcall   *0x8(%rax)", "indirect branch"),
            ("   0:\tmov    %rax,-0x8(%rsp)", "below the stack pointer"),
            ("   0:\tsub    %rax,%rsp", "size is not known"),
            ("   0:\tsub    $0x100000,%rsp", "size is not known"),
            ("   0:\tadd    $0xffffffff80000000,%rsp", "size is not known"),
            ("   0:\tand    $0xffffffffffffffe0,%rsp", "size is not known"),
            ("\t\t\t3: R_X86_64_GOTPCRELX\tmemcpy-0x4", "global offset table"),
        ] {
            let found = faults(line);
            assert!(matches!(&found[..], [one] if one.contains(fault)), "{line}: {found:?}");
        }
        let alone = Disassembly::parse("0000000000000000 <core::panicking::panic_fmt>:\n");
        assert_eq!(alone.panics().1.len(), 1);
        let called = Disassembly::parse(
            "0 <ours>:\n   0:\tcall   20 <core::panicking::panic_fmt>\n20 <core::panicking::panic_fmt>:\n",
        );
        assert_eq!(called.panics().1, ["ours can panic"]);
    }

    #[test]
    fn ordinary_code_is_none() {
        assert!(
            faults("   0:\tmov    0x8(%rsp),%rax\n   4:\tjmp    10 <f+0x10>\n   9:\tsub    $0x18,%rsp").is_empty()
        );
    }

    #[test]
    fn listed_panics_are_named() {
        let (name, _) = PANICS[0];
        let code = format!(
            "0 <{name}>:\n   0:\tcall   20 <core::panicking::panic_fmt>\n20 <core::panicking::panic_fmt>:\n"
        );
        assert_eq!(Disassembly::parse(&code).panics(), (vec![name.to_owned()], vec![]));
    }

    #[test]
    fn control_frames_are_not_of_the_packet_path() {
        let code = "0 <cvsw_engine_burst>:\n   0:\tcall   20 <<x::Cvsw>::control::<y>>\n\
                    20 <<x::Cvsw>::control::<y>>:\n  20:\tsub    $0xc00,%rsp\n\
                    40 <cvsw_engine_control>:\n  40:\tcall   20 <<x::Cvsw>::control::<y>>\n";
        let report = Disassembly::parse(code).report();
        let control = (8 + 8 + 0xc00, "cvsw_engine_control".to_owned());
        assert_eq!(report.chains, [control, (8, "cvsw_engine_burst".to_owned())]);
    }

    #[test]
    fn stack_frames_add_up_along_calls() {
        let code = "0 <cvsw_a>:\n   0:\tpush   %rbx\n   1:\tsub    $0x100,%rsp\n   8:\tcall   20 <b>\n\
                    20 <b>:\n  20:\tsub    $0x80,%rsp\n  28:\tcall   20 <b>\n";
        let report = Disassembly::parse(code).report();
        assert_eq!(report.frames[0], (8 + 8 + 0x100, "cvsw_a".to_owned()));
        assert_eq!(report.chains, [(8 + 8 + 0x100 + 8 + 0x80, "cvsw_a".to_owned())]);
    }

    #[test]
    fn too_much_stack_is_refused() {
        let code = |size: u32| {
            format!(
                "0 <cvsw_a>:\n   0:\tsub    $0x400,%rsp\n   8:\tcall   20 <b>\n20 <b>:\n  20:\tsub    ${size:#x},%rsp\n"
            )
        };
        let faults = |size| {
            let disassembly = Disassembly::parse(&code(size));
            disassembly.too_deep(&disassembly.report())
        };
        assert_eq!(faults(1024 - 16), [""; 0]);
        let [fault] = &faults(1024 - 15)[..] else { panic!("one chain is too deep") };
        assert!(fault.contains("cvsw_a has 2049 bytes") && fault.contains("1017  b\n"), "{fault}");
        assert_eq!(faults(2048).len(), 2, "the frame of b, and the chain");
    }

    #[test]
    fn a_constant_may_be_negative() {
        let frame = |line: &str| Disassembly::parse(&format!("0 <f>:\n   0:\t{line}\n")).functions["f"].frame;
        assert_eq!(frame("add    $0xffffffffffffff80,%rsp"), 8 + 0x80);
        assert_eq!(frame("sub    $0xffffffffffffff80,%rsp"), 8);
        assert_eq!(frame("add    $0x80,%rsp"), 8);
    }

    /// The shim calls the engine, by a pointer first, and the engine the shim.
    const MODULE: &str = "0 <cvsw_doit>:\n   0:\tsub    $0x10,%rsp\n\
                          \t\t\t3: R_X86_64_PLT32\t__x86_indirect_thunk_rax-0x4\n\
                          20 <cvsw_run_a>:\n  20:\tsub    $0x20,%rsp\n\t\t\t24: R_X86_64_PLT32\tcvsw_engine_burst-0x4\n\
                          40 <cvsw_engine_burst>:\n  40:\tsub    $0x400,%rsp\n\t\t\t44: R_X86_64_PLT32\tcvsw_keys-0x4\n\
                          60 <cvsw_keys>:\n  60:\tsub    $0x40,%rsp\n\t\t\t64: R_X86_64_PLT32\tkmalloc-0x4\n\
                          80 <cvsw_init>:\n  80:\tmov    $0x0,%rdi\n\t\t\t83: R_X86_64_32S\tcvsw_run_a\n";

    #[test]
    fn chains_of_a_module_lead_through_shim_and_engine() {
        let (chains, faults) = Disassembly::parse(MODULE).module_chains();
        assert_eq!(faults, [""; 0]);
        assert_eq!(chains[0], (8 + 0x10 + 8 + 0x20 + 8 + 0x400 + 8 + 0x40, "cvsw_doit".to_owned()));
        assert_eq!(chains.last(), Some(&(8, "cvsw_init".to_owned())), "an address is no call");
    }

    #[test]
    fn a_module_whose_chains_are_too_deep_or_unknown_is_refused() {
        for (from, to, fault) in [
            ("$0x40,", "$0x9c0,", "the call chain from cvsw_doit has 3600 bytes"),
            ("cvsw_doit", "cvsw_new", "cvsw_new calls by a pointer"),
            ("cvsw_engine_burst", "cvsw_engine_other", "there is no function"),
            ("cvsw_init", "cvsw_keys", "two functions have the name cvsw_keys"),
            ("sub    $0x40,", "sub    %rax,", "size is not known"),
        ] {
            let (_, faults) = Disassembly::parse(&MODULE.replace(from, to)).module_chains();
            assert!(faults.iter().any(|found| found.contains(fault)), "{fault}: {faults:?}");
        }
    }

    #[test]
    fn calls_of_generic_functions_count() {
        let code = "0 <cvsw_a>:\n   0:\tcall   20 <<x::Y>::b::<&mut z::Memory>>\n\
                    20 <<x::Y>::b::<&mut z::Memory>>:\n  20:\tsub    $0x80,%rsp\n";
        assert_eq!(Disassembly::parse(code).report().chains, [(8 + 8 + 0x80, "cvsw_a".to_owned())]);
    }

    #[test]
    fn calls_into_another_section_count() {
        let code = "Disassembly of section .text:\n\n0000000000000000 <cvsw_a>:\n   0:\tcall   5 <cvsw_a+0x5>\n\
                    \t\t\t1: R_X86_64_PLT32\t.text.unlikely.+0x1c\n\
                    Disassembly of section .text.unlikely.:\n\n0000000000000020 <cold>:\n  20:\tsub    $0x80,%rsp\n";
        assert_eq!(Disassembly::parse(code).report().chains, [(8 + 8 + 0x80, "cvsw_a".to_owned())]);
    }
}
