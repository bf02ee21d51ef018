//! Bytes as hexadecimal text, both ways.

/// Bytes written in hexadecimal; white space and `#` comments up to the end of a line are ignored.
///
/// # Panics
/// If anything else is in the text: it stands in the source of a test.
pub fn bytes(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .lines()
        .flat_map(|line| line.split('#').next().unwrap_or_default().chars())
        .filter(|c| !c.is_whitespace())
        .map(|c| c.to_digit(16).unwrap_or_else(|| panic!("{c:?} is no hexadecimal digit")) as u8)
        .collect();
    assert!(digits.len().is_multiple_of(2), "odd number of hexadecimal digits");
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

/// Hexadecimal text, 16 bytes a line, each line with its offset.
pub fn dump(bytes: &[u8]) -> String {
    bytes
        .chunks(16)
        .enumerate()
        .map(|(line, chunk)| {
            let text: Vec<String> = chunk.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("{:04x}  {}\n", line * 16, text.join(" "))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn both_ways() {
        let bytes = super::bytes("0001 02ff # a comment\n10");
        assert_eq!(bytes, [0, 1, 2, 0xff, 0x10]);
        assert_eq!(super::dump(&bytes), "0000  00 01 02 ff 10\n");
    }
}
