//! Texts with `{room}`, `{index}`, `{event}` and `{data}` in them, so that one
//! program can speak to servers with other protocols. All other braces stay.

/// A text cut at its placeholders, once, so that filling it is only copying.
pub struct Template(Vec<Part>);

enum Part {
    Text(Vec<u8>),
    Room,
    Index,
    Event,
    Data,
}

/// What is put in.
#[derive(Clone, Copy)]
pub struct Fill<'a> {
    pub room: &'a [u8],
    pub index: usize,
    pub event: &'a [u8],
    pub data: &'a [u8],
}

impl Template {
    /// Cuts `text`.
    pub fn parse(text: &str) -> Self {
        let (mut parts, mut literal, mut rest) = (Vec::new(), Vec::new(), text);
        while let Some(character) = rest.chars().next() {
            let length = if let Some((part, length)) = placeholder(rest) {
                if !literal.is_empty() {
                    parts.push(Part::Text(std::mem::take(&mut literal)));
                }
                parts.push(part);
                length
            } else {
                let length = character.len_utf8();
                literal.extend_from_slice(&rest.as_bytes()[..length]);
                length
            };
            rest = &rest[length..];
        }
        if !literal.is_empty() {
            parts.push(Part::Text(literal));
        }
        Self(parts)
    }

    /// Appends the filled text.
    #[inline]
    pub fn fill(&self, fill: Fill, out: &mut Vec<u8>) {
        for part in &self.0 {
            match part {
                Part::Text(text) => out.extend_from_slice(text),
                Part::Room => out.extend_from_slice(fill.room),
                Part::Index => out.extend_from_slice(fill.index.to_string().as_bytes()),
                Part::Event => out.extend_from_slice(fill.event),
                Part::Data => out.extend_from_slice(fill.data),
            }
        }
    }
}

/// The placeholder at the start of `text`, and its length.
fn placeholder(text: &str) -> Option<(Part, usize)> {
    let name = &text[..=text.find('}')?];
    let part = match name {
        "{room}" => Part::Room,
        "{index}" => Part::Index,
        "{event}" => Part::Event,
        "{data}" => Part::Data,
        _ => return None,
    };
    Some((part, name.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_names_are_replaced() {
        let template = Template::parse(r#"{"r":"{room}","é":{data},"x":{unknown},"i":{index}}{event}"#);
        let mut out = Vec::new();
        template.fill(Fill { room: b"a:1", index: 7, event: b"e", data: b"{}" }, &mut out);
        assert_eq!(String::from_utf8_lossy(&out), r#"{"r":"a:1","é":{},"x":{unknown},"i":7}e"#);
    }
}
