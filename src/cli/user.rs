//! `fanfare user`: the users of the identity provider, changed in the database itself, whether or not a broker uses it at
//! the same time.

use std::io::{self, BufRead, IsTerminal, Read};
use std::path::PathBuf;

use clap::{Args, Subcommand};
use smol_str::SmolStr;
use uuid::Uuid;

use super::{Failure, print};
use crate::app::rest::login::EMAIL_BYTES;
use crate::auth::password;
use crate::config::{Config, Sources};
use crate::limits::NAME_BYTES;
use crate::record::{Account, Answer, NewAccount, Query, Refusal, Write};
use crate::settings::Secret;
use crate::store::Database;
use crate::time::{Now, seconds};

#[derive(Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// The configuration file; store.path names the database.
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Command {
    /// Adds a user. The password is read from standard input, one line.
    Add(NewUser),
    /// Gives a user a new password, read from standard input. All his refresh tokens end.
    Passwd(User),
    /// Lets a user sign in no more. All his refresh tokens end; an access token is good until its time is over.
    Disable(User),
    /// Lets a user sign in again.
    Enable(User),
    /// Removes a user and his refresh tokens.
    Remove(User),
    /// Lists all users.
    List,
}

#[derive(Args)]
struct NewUser {
    /// The address that the user signs in with.
    #[arg(value_parser = parse_email)]
    email: SmolStr,
    /// Shown to other users; if not given, what stands before the @.
    #[arg(long, value_name = "NAME", value_parser = parse_name)]
    name: Option<SmolStr>,
    /// A role of the user; may be given several times.
    #[arg(long = "role", value_name = "ROLE", value_parser = ["agent", "admin"])]
    roles: Vec<String>,
    /// The `sub` of the user's tokens; if not given, a new UUID.
    #[arg(long, value_name = "ID", value_parser = parse_name)]
    id: Option<SmolStr>,
}

#[derive(Args)]
struct User {
    /// The address that the user signs in with.
    #[arg(value_parser = parse_email)]
    email: SmolStr,
}

/// An address is not looked at closely: whether mail arrives there is not our business.
fn parse_email(text: &str) -> Result<SmolStr, String> {
    let is_plain = !text.chars().any(|c| c.is_control() || c.is_whitespace());
    match text.rsplit_once('@') {
        Some((user, host)) if !user.is_empty() && !host.is_empty() && is_plain => {}
        _ => return Err("not an address: write it like ann@example.com".to_owned()),
    }
    if text.len() > EMAIL_BYTES {
        return Err(format!("too long: an address has at most {EMAIL_BYTES} bytes"));
    }
    Ok(text.into())
}

fn parse_name(text: &str) -> Result<SmolStr, String> {
    if text.trim().is_empty() || text.len() > NAME_BYTES || text.chars().any(char::is_control) {
        return Err(format!("write 1 to {NAME_BYTES} bytes without control characters"));
    }
    Ok(text.into())
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let sources = Sources::of_process(arguments.config.clone());
    let path = Config::read(&sources).map_err(Failure::usage)?.store.path;
    let is_new = !path.exists();
    if is_new && !matches!(arguments.command, Command::Add(_)) {
        return Err(Failure::Run(format!(
            "there is no database {}: name the broker's in store.path (--config FILE), or add a user first",
            path.display()
        )));
    }
    let mut database = Database::open(&path).map_err(Failure::run)?;
    match &arguments.command {
        Command::Add(user) => {
            let account = add(&mut database, user, &new_password()?)?;
            print(&format!("added {}, id {}\n", account.email, account.id));
        }
        Command::Passwd(User { email }) => {
            find(&mut database, email)?;
            let password_hash = hash(&new_password()?)?;
            change(&mut database, email, Write::SetPassword { email: email.clone(), password_hash })?;
            print(&format!("{email} has a new password\n"));
        }
        Command::Disable(User { email }) => {
            change(&mut database, email, Write::SetDisabled { email: email.clone(), disabled: true })?;
            print(&format!("{email} may not sign in any more\n"));
        }
        Command::Enable(User { email }) => {
            change(&mut database, email, Write::SetDisabled { email: email.clone(), disabled: false })?;
            print(&format!("{email} may sign in\n"));
        }
        Command::Remove(User { email }) => {
            change(&mut database, email, Write::RemoveAccount { email: email.clone() })?;
            print(&format!("removed {email}\n"));
        }
        Command::List => list(&mut database)?,
    }
    Ok(())
}

/// Adds a user.
fn add(database: &mut Database, user: &NewUser, password: &Secret) -> Result<Account, Failure> {
    let name = user.email.split('@').next().unwrap_or_default();
    let mut roles = user.roles.clone();
    roles.sort_unstable();
    roles.dedup();
    let account = NewAccount {
        id: user.id.clone().unwrap_or_else(|| Uuid::now_v7().to_string().into()),
        email: user.email.clone(),
        password_hash: hash(password)?,
        username: user.name.clone().unwrap_or_else(|| name.into()),
        roles: serde_json::Value::from(roles).to_string().into(),
    };
    change(database, &user.email, Write::AddAccount(account))
}

fn hash(password: &Secret) -> Result<Secret, Failure> {
    password::hash(password.expose()).map_err(Failure::run)
}

/// Carries out a change of the user with this address; tells how he is or was.
fn change(database: &mut Database, email: &str, write: Write) -> Result<Account, Failure> {
    match database.write(Now::read().unix_ms(), &write).map_err(|refusal| fault(email, &refusal))? {
        Answer::Account(account) => Ok(*account),
        _ => Err(Failure::Run(format!("{email}: the database answered something else"))),
    }
}

/// Makes sure that there is a user with this address.
fn find(database: &mut Database, email: &SmolStr) -> Result<(), Failure> {
    match database.read(&Query::AccountByEmail { email: email.clone() }) {
        Ok(Answer::FoundAccount(None)) => Err(fault(email, &Refusal::NotFound("user"))),
        Ok(_) => Ok(()),
        Err(refusal) => Err(fault(email, &refusal)),
    }
}

fn fault(email: &str, refusal: &Refusal) -> Failure {
    Failure::Run(format!("{email}: {refusal}"))
}

/// One line for each user: address, id, name, roles, state, day added.
fn list(database: &mut Database) -> Result<(), Failure> {
    let mut after = SmolStr::default();
    loop {
        let query = Query::Accounts { after, limit: Query::MOST_OF_PAGE };
        let Answer::Accounts(page) = database.read(&query).map_err(Failure::run)? else { return Ok(()) };
        let Some(last) = page.last() else { return Ok(()) };
        after = last.email.clone();
        for account in &page {
            let roles: Vec<String> = serde_json::from_str(&account.roles).unwrap_or_default();
            let state = if account.disabled { "disabled" } else { "enabled" };
            let added = seconds(account.created_at);
            let fields = [&account.email, &account.id, &account.username, &*roles.join(","), state, &added];
            print(&format!("{}\n", fields.join("\t")));
        }
    }
}

/// The password for a user: asked for twice on a terminal, without showing it, otherwise the first line of standard input.
fn new_password() -> Result<Secret, Failure> {
    let failed = |error: io::Error| Failure::Run(format!("the password cannot be read: {error}"));
    if io::stdin().is_terminal() {
        let first = rpassword::prompt_password("Password: ").map_err(failed)?;
        let second = rpassword::prompt_password("Again: ").map_err(failed)?;
        if first != second {
            return Err(Failure::Run("the two passwords differ: try again".to_owned()));
        }
        return Ok(Secret::new(first));
    }
    // Its line end, and one byte more so that a longer one is seen to be too long.
    let most = password::MOST_BYTES as u64 + 3;
    let mut line = String::new();
    io::stdin().lock().take(most).read_line(&mut line).map_err(failed)?;
    if line.is_empty() {
        let message = "no password was given: write it to standard input, one line";
        return Err(Failure::Run(message.to_owned()));
    }
    let line = line.strip_suffix('\n').unwrap_or(&line);
    Ok(Secret::new(line.strip_suffix('\r').unwrap_or(line)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_names() {
        for good in ["a@b", "ann.o'neil+x@example.com", "ä@bücher.example"] {
            assert_eq!(parse_email(good).as_deref(), Ok(good));
        }
        for wrong in ["", "ann", "@example.com", "ann@", "ann @example.com", "a\u{0}@b", &"a@b".repeat(90)] {
            assert!(parse_email(wrong).is_err(), "{wrong}");
        }
        assert!(parse_name("Ann O'Neil").is_ok());
        for wrong in ["", " ", "a\nb", &"a".repeat(129)] {
            assert!(parse_name(wrong).is_err(), "{wrong}");
        }
    }
}
