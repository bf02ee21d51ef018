//! What must hold for an object that the compiler of an ordinary program made and that runs in a kernel.

use crate::command::Cmd;
use anyhow::{Result, bail};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::Path,
};

/// Symbols that the object may take from the kernel and the shim.
const ALLOWED_SYMBOLS: &[&str] =
    &["memcpy", "memmove", "memset", "memcmp", "bcmp", "cvsw_panicked", "__x86_return_thunk"];
/// Largest stack frame of one function in bytes.
const FRAME_LIMIT: u32 = 2048;
/// Deepest call chain of a data frame in bytes: an eighth of a kernel stack.
const PACKET_CHAIN_LIMIT: u32 = 2048;
/// Deepest call chain of anything else (control messages hold a whole flow in several frames): half a kernel stack.
const CHAIN_LIMIT: u32 = 8192;
/// What the packet path calls.
const PACKET_PATH: &str = "cvsw_engine_burst";
/// What only control messages call.
const CONTROL_PATH: &str = "take_control";

/// Size and stack use of the object.
pub struct Report {
    functions: usize,
    frames: Vec<(u32, String)>,
    chains: Vec<(u32, String)>,
    /// The deepest call chain of a data frame.
    packet_chain: u32,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "object: {} functions; no SIMD, red zone, bare return, indirect branch, GOT or panic",
            self.functions
        )?;
        writeln!(f, "deepest call chain of a data frame: {} bytes", self.packet_chain)?;
        writeln!(f, "largest stack frames (bytes):")?;
        self.frames.iter().take(4).try_for_each(|(size, name)| writeln!(f, "  {size:>5}  {name}"))?;
        write!(f, "deepest call chains (bytes):")?;
        self.chains.iter().take(4).try_for_each(|(size, name)| write!(f, "\n  {size:>5}  {name}"))
    }
}

/// Checks the object; the error lists everything that is wrong.
pub fn check(object: &Path) -> Result<Report> {
    let code = Cmd::new("objdump").words("-dr -C --no-show-raw-insn").arg(object).read()?;
    let undefined = Cmd::new("nm").words("--undefined-only --format=just-symbols").arg(object).read()?;
    let disassembly = Disassembly::parse(&code);
    let mut faults = disassembly.faults.clone();
    faults.extend(
        undefined
            .lines()
            .filter(|symbol| !ALLOWED_SYMBOLS.contains(symbol))
            .map(|symbol| format!("unexpected undefined symbol {symbol}")),
    );
    let report = disassembly.report();
    faults.extend(
        report
            .frames
            .iter()
            .filter(|(size, _)| *size > FRAME_LIMIT)
            .map(|(size, name)| format!("the stack frame of {name} has {size} bytes, more than {FRAME_LIMIT}")),
    );
    faults.extend(
        report
            .chains
            .iter()
            .filter(|(size, _)| *size > CHAIN_LIMIT)
            .map(|(size, name)| format!("the call chain from {name} has {size} bytes, more than {CHAIN_LIMIT}")),
    );
    if report.packet_chain > PACKET_CHAIN_LIMIT {
        faults.push(format!(
            "a data frame uses {} bytes of stack, more than {PACKET_CHAIN_LIMIT}",
            report.packet_chain
        ));
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
                if name.contains("panic") && !name.contains("rust_begin_unwind") {
                    this.faults.push(format!("linked in: {name}"));
                }
                this.functions.insert(name.clone(), Function { frame: 8, ..Function::default() });
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
        let mut chains: Vec<_> =
            entries.map(|name| (self.depth(name, None, &mut BTreeSet::new()), name.clone())).collect();
        let packet_chain = self.depth(PACKET_PATH, Some(CONTROL_PATH), &mut BTreeSet::new());
        frames.sort_by(|a, b| b.cmp(a));
        chains.sort_by(|a, b| b.cmp(a));
        Report { functions: self.functions.len(), frames, chains, packet_chain }
    }

    /// Stack that a call may use, at most; recursion counts once, and functions named like `without` do not.
    fn depth(&self, name: &str, without: Option<&str>, above: &mut BTreeSet<String>) -> u32 {
        let name = self.places.get(name).map_or(name, String::as_str);
        let Some(function) = self.functions.get(name) else { return 0 };
        if without.is_some_and(|part| name.contains(part)) || !above.insert(name.to_owned()) {
            return 0;
        }
        let deepest = function.calls.iter().map(|call| self.depth(call, without, above)).max().unwrap_or(0);
        above.remove(name);
        function.frame + deepest
    }
}

/// Adds what one line of code does to `function`; what is wrong with it, if anything.
fn instruction(line: &str, name: &str, function: &mut Function) -> Option<&'static str> {
    if let Some((_, relocation)) = line.split_once("R_X86_64_") {
        if let Some(target) = relocation.split_once(char::is_whitespace) {
            function.calls.insert(called(target.1));
            function.calls.extend(place(target.1));
        }
        return relocation.starts_with("GOT").then_some("a relocation by the global offset table");
    }
    let (_, text) = line.split_once('\t')?;
    let text = text.trim();
    let (operation, operands) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    match operation {
        "push" => function.frame += 8,
        "sub" => {
            let size = operands.trim().strip_prefix("$0x").and_then(|rest| rest.strip_suffix(",%rsp"));
            function.frame += size.and_then(|size| u32::from_str_radix(size, 16).ok()).unwrap_or(0);
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
    if operands.contains("(%rsp") && operands.split(',').any(|one| one.trim().starts_with("-0x")) {
        return Some("an access below the stack pointer");
    }
    None
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
            ("\t\t\t3: R_X86_64_GOTPCRELX\tmemcpy-0x4", "global offset table"),
        ] {
            let found = faults(line);
            assert!(matches!(&found[..], [one] if one.contains(fault)), "{line}: {found:?}");
        }
        let panicking = Disassembly::parse("0000000000000000 <core::panicking::panic_fmt>:\n");
        assert_eq!(panicking.faults, ["linked in: core::panicking::panic_fmt"]);
    }

    #[test]
    fn ordinary_code_is_none() {
        assert!(
            faults("   0:\tmov    0x8(%rsp),%rax\n   4:\tjmp    10 <f+0x10>\n   9:\tsub    $0x18,%rsp").is_empty()
        );
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
