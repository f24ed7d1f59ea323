//! The test page on the public port, of a broker that is tried out. What its files are `page` knows.

use crate::page::{self, File};
use crate::proto::http::Request;
use crate::shard::api::body_length;
use crate::shard::conn::Reply;
use crate::shard::http::{Exchange, Next};
use crate::shard::{Net, Shard};
use crate::time::Now;

impl<N: Net> Shard<N> {
    /// Answers a request for a file of the test page; `None`: it is for none, or the page is not served.
    pub(super) fn page_request(
        &mut self,
        key: u32,
        request: &Request<'_>,
        behind: &[u8],
        now: Now,
    ) -> Option<Next> {
        let file = page::find(request.path).filter(|_| self.settings.page)?;
        let keep = self.may_keep(key, request);
        let reply = Reply { is_head: request.method == "HEAD", keep, cors: self.cors(request) };
        let exchange = Exchange { key, reply, length: 0, behind, now }.of_length(body_length(request));
        let answer = respond(file, request, &exchange.reply);
        Some(self.settle(answer, exchange))
    }
}

fn respond(file: &File, request: &Request<'_>, reply: &Reply) -> Vec<u8> {
    if !["GET", "HEAD"].contains(&request.method) {
        return reply.response(405, &[("Allow", "GET, HEAD")], b"");
    }
    if request.header("if-none-match").is_some_and(|tags| file.is_known(tags)) {
        return reply.response(304, &[], b"");
    }
    let mut headers = vec![("Content-Type", file.content_type), ("X-Content-Type-Options", "nosniff")];
    match file.tag {
        Some(tag) => headers.extend([("Cache-Control", "public, max-age=0"), ("ETag", tag)]),
        None => headers.extend([
            ("Cache-Control", "no-store"),
            ("Content-Security-Policy", page::POLICY),
            ("Referrer-Policy", "no-referrer"),
        ]),
    }
    reply.response(200, &headers, file.text.as_bytes())
}
