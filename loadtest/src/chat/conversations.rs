//! The conversations, made before anybody is connected.

use std::io::{BufRead, BufReader, Write};

use serde_json::{Value, json};

use crate::durable::server::{Server, connect};
use crate::failure::{Context, Failure};

/// Makes a conversation for each of these pairs of users; returns their ids.
pub fn converse(
    server: &Server,
    pairs: impl Iterator<Item = (String, String)>,
) -> Result<Vec<String>, Failure> {
    let ingest = server.running().ports.ingest;
    let place = || format!("ingest connection to {}", ingest);
    let mut stream = connect(ingest).context(place)?;
    let mut answers = BufReader::new(stream.try_clone().context(place)?);
    let mut conversations = Vec::new();
    // One after the other, as a line is answered when it is on the disk, and
    // a server whose answers nobody reads would stop reading.
    for (first, second) in pairs {
        let line = json!({ "op": "conversation.create", "participants": [first, second], "id": conversations.len().to_string() });
        stream.write_all(format!("{line}\n").as_bytes()).context(place)?;
        let mut answer = String::new();
        answers.read_line(&mut answer).context(place)?;
        let value: Value = serde_json::from_str(&answer).unwrap_or_default();
        let id = value["conversation_id"].as_str();
        let id = id.ok_or_else(|| Failure::new(format!("no conversation was made: {}", answer.trim())))?;
        conversations.push(id.to_owned());
    }
    Ok(conversations)
}
