//! The test page (`spec/mobile.md`, "Test page"): the files of `GET /websocket_test` and the Socket.IO client beside
//! `/socket.io/`, as they lie in this folder. Which server shows them, and to whom, is not known here.
//!
//! The page is for browsers as they are: no build step, no other server. Its scripts are modules, one for each app.

/// What the page may load and connect to, and nobody may frame it: a Content-Security-Policy (W3C CSP level 3). The schemes
/// of WebSockets stand there for browsers to which `'self'` is HTTP alone.
pub const POLICY: &str = "default-src 'self'; connect-src 'self' ws: wss:; object-src 'none'; base-uri 'none'; \
                          form-action 'none'; frame-ancestors 'none'";

/// The entity tag of `vendor/socket.io.min.js`: its version, as the reference server has it.
const CLIENT_TAG: &str = "\"4.8.4\"";

const HTML: &str = "text/html; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const IMAGE: &str = "image/svg+xml";
/// As the reference server has it.
const SCRIPT: &str = "application/javascript; charset=utf-8";

/// A file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct File {
    /// Where it is served.
    pub path: &'static str,
    /// Its `Content-Type`.
    pub content_type: &'static str,
    /// Its `ETag`, if it may be kept; otherwise it is to be asked for each time.
    pub tag: Option<&'static str>,
    /// Its content.
    pub text: &'static str,
}

macro_rules! file {
    ($path:literal, $name:literal, $content_type:ident, $tag:expr) => {
        File { path: $path, content_type: $content_type, tag: $tag, text: include_str!($name) }
    };
}

/// All files.
const FILES: [File; 15] = [
    file!("/websocket_test", "index.html", HTML, None),
    file!("/websocket_test/icon.svg", "icon.svg", IMAGE, None),
    file!("/websocket_test/page.css", "page.css", STYLE, None),
    file!("/websocket_test/page.js", "page.js", SCRIPT, None),
    file!("/websocket_test/dom.js", "dom.js", SCRIPT, None),
    file!("/websocket_test/chat.js", "chat.js", SCRIPT, None),
    file!("/websocket_test/events.js", "events.js", SCRIPT, None),
    file!("/websocket_test/identity.js", "identity.js", SCRIPT, None),
    file!("/websocket_test/links.js", "links.js", SCRIPT, None),
    file!("/websocket_test/market.js", "market.js", SCRIPT, None),
    file!("/websocket_test/account.js", "account.js", SCRIPT, None),
    file!("/websocket_test/conversation.js", "conversation.js", SCRIPT, None),
    file!("/websocket_test/support.js", "support.js", SCRIPT, None),
    file!("/websocket_test/mobile.js", "mobile.js", SCRIPT, None),
    file!("/socket.io/socket.io.min.js", "vendor/socket.io.min.js", SCRIPT, Some(CLIENT_TAG)),
];

/// The file of a path without its query.
pub fn find(path: &str) -> Option<&'static File> {
    FILES.iter().find(|file| file.path == path)
}

impl File {
    /// Whether who has the file with one of these tags (`If-None-Match`, RFC 9110 §13.1.2) has this one.
    pub fn is_known(&self, tags: &str) -> bool {
        let weak = |tag: &'static str, known: &str| known.strip_prefix("W/").unwrap_or(known) == tag;
        self.tag.is_some_and(|tag| tags.split(',').any(|known| weak(tag, known.trim())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_script_of_this_folder_is_served_and_named_by_the_page() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/page");
        let mut served: Vec<String> = FILES
            .iter()
            .filter_map(|file| file.path.strip_prefix("/websocket_test/").map(str::to_owned))
            .chain(["index.html", "mod.rs", "vendor"].map(str::to_owned))
            .collect();
        let mut there: Vec<String> = std::fs::read_dir(folder)
            .expect("readable")
            .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
            .collect();
        served.sort();
        there.sort();
        assert_eq!(served, there);
        let all: String = FILES[..FILES.len() - 1].iter().map(|file| file.text).collect();
        for file in &FILES[1..] {
            let name = file.path.strip_prefix("/websocket_test/").map_or(file.path, |name| name);
            assert!(all.contains(name), "nothing loads {name}");
        }
    }

    #[test]
    fn the_policy_lets_the_page_through() {
        let page = FILES[0].text;
        for inline in ["<style", "style=\"", "onclick", "onload", "javascript:", "http://", "https://"] {
            assert!(!page.contains(inline), "{inline}");
        }
        // A script in the page itself would begin with a line break or with code.
        assert_eq!(page.matches("<script").count(), page.matches("></script>").count());
    }

    #[test]
    fn a_known_client_is_not_sent_again() {
        let client = find("/socket.io/socket.io.min.js").expect("there");
        let version = CLIENT_TAG.trim_matches('"');
        assert!(client.text.contains(&format!("Socket.IO v{version}\n")));
        for (tags, is_known) in [
            ("\"4.8.4\"", true),
            ("W/\"4.8.4\"", true),
            ("\"a\", W/\"4.8.4\"", true),
            ("\"4.8.3\"", false),
            ("4.8.4", false),
            ("", false),
        ] {
            assert_eq!(client.is_known(tags), is_known, "{tags}");
        }
        assert!(!FILES[0].is_known(""), "what has no tag is sent each time");
        assert_eq!(find("/websocket_test/"), None);
    }
}
