//! Tokens of CEL. Positions are byte offsets into the expression.

use super::CelError;

/// A token.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    Ident(String),
    /// The magnitude of an integer literal: the sign is an operator.
    Int(u64),
    Uint(u64),
    Double(f64),
    Str(String),
    Bytes(Vec<u8>),
    Op(&'static str),
    End,
}

/// Longest first, so that `<=` is not read as `<` and `=`.
const OPERATORS: [&str; 23] = [
    "&&", "||", "==", "!=", "<=", ">=", "<", ">", "+", "-", "*", "/", "%", "!", "?", ":", ",", ".", "(", ")", "[", "]",
    "{",
];

/// Splits an expression into tokens; the last one is [`Token::End`].
pub(super) fn tokens(text: &str) -> Result<Vec<(Token, usize)>, CelError> {
    let mut lexer = Lexer { text, at: 0 };
    let mut out = Vec::new();
    loop {
        lexer.skip_blanks();
        let at = lexer.at;
        let token = lexer.next()?;
        let done = token == Token::End;
        out.push((token, at));
        if done {
            return Ok(out);
        }
    }
}

struct Lexer<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Lexer<'t> {
    fn rest(&self) -> &'t str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn take_while(&mut self, keep: impl Fn(char) -> bool) -> &'t str {
        let rest = self.rest();
        let end = rest.find(|c| !keep(c)).unwrap_or(rest.len());
        self.at += end;
        rest.get(..end).unwrap_or_default()
    }

    fn skip_blanks(&mut self) {
        loop {
            self.take_while(|c| matches!(c, ' ' | '\t' | '\n' | '\r' | '\u{c}'));
            if !self.rest().starts_with("//") {
                return;
            }
            self.take_while(|c| c != '\n');
        }
    }

    fn next(&mut self) -> Result<Token, CelError> {
        let rest = self.rest();
        let Some(first) = rest.chars().next() else { return Ok(Token::End) };
        if let Some(token) = self.string()? {
            return Ok(token);
        }
        if first.is_ascii_alphabetic() || first == '_' {
            return Ok(Token::Ident(self.take_while(|c| c.is_ascii_alphanumeric() || c == '_').to_owned()));
        }
        let dot_digit = first == '.' && rest.chars().nth(1).is_some_and(|c| c.is_ascii_digit());
        if first.is_ascii_digit() || dot_digit {
            return self.number();
        }
        match OPERATORS.iter().chain(&["}"]).find(|op| rest.starts_with(**op)) {
            Some(op) => {
                self.at += op.len();
                Ok(Token::Op(op))
            }
            None => Err(CelError::new(self.at, format!("`{}` is not part of CEL", first.escape_debug()))),
        }
    }

    fn number(&mut self) -> Result<Token, CelError> {
        let start = self.at;
        let rest = self.rest();
        let wrong = |what: &str| CelError::new(start, format!("{what} is not a number that fits in 64 bits"));
        if let Some(hex) = rest.strip_prefix("0x").or_else(|| rest.strip_prefix("0X")) {
            let digits = hex.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(hex.len());
            self.at += 2 + digits;
            let value = u64::from_str_radix(hex.get(..digits).unwrap_or_default(), 16).map_err(|_| wrong("this"))?;
            return Ok(self.integer(value));
        }
        self.take_while(|c| c.is_ascii_digit());
        let mut is_double = false;
        if self.rest().starts_with('.') && self.rest().chars().nth(1).is_some_and(|c| c.is_ascii_digit()) {
            is_double = true;
            self.at += 1;
            self.take_while(|c| c.is_ascii_digit());
        }
        if self.rest().starts_with(['e', 'E']) {
            let mark = self.at;
            self.at += 1;
            if self.rest().starts_with(['+', '-']) {
                self.at += 1;
            }
            if self.take_while(|c| c.is_ascii_digit()).is_empty() {
                self.at = mark;
            } else {
                is_double = true;
            }
        }
        let digits = self.text.get(start..self.at).unwrap_or_default();
        let token = if is_double {
            Token::Double(digits.parse().map_err(|_| wrong(digits))?)
        } else {
            let value = digits.parse().map_err(|_| wrong(digits))?;
            self.integer(value)
        };
        if self.rest().starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_') {
            return Err(CelError::new(self.at, "put a blank or an operator after the number"));
        }
        Ok(token)
    }

    fn integer(&mut self, value: u64) -> Token {
        if self.rest().starts_with(['u', 'U']) {
            self.at += 1;
            return Token::Uint(value);
        }
        Token::Int(value)
    }

    /// A string or bytes literal, if one begins here: prefixes `r` and `b` in any order and case, one or three quotes.
    fn string(&mut self) -> Result<Option<Token>, CelError> {
        let (start, rest) = (self.at, self.rest());
        let Some(quote_at) = rest.bytes().take(3).position(|b| matches!(b, b'"' | b'\'')) else { return Ok(None) };
        let prefix = rest.get(..quote_at).unwrap_or_default().to_ascii_lowercase();
        if !matches!(prefix.as_str(), "" | "r" | "b" | "rb" | "br") {
            return Ok(None);
        }
        let (raw, bytes) = (prefix.contains('r'), prefix.contains('b'));
        let body = rest.get(quote_at..).unwrap_or_default();
        let Some(quote) = ["\"\"\"", "'''", "\"", "'"].into_iter().find(|q| body.starts_with(q)) else {
            return Ok(None);
        };
        self.at += quote_at + quote.len();
        let mut out: Vec<u8> = Vec::new();
        loop {
            let rest = self.rest();
            if rest.starts_with(quote) {
                self.at += quote.len();
                break;
            }
            let Some(next) = rest.chars().next() else {
                return Err(CelError::new(start, "the string does not end"));
            };
            if quote.len() == 1 && matches!(next, '\n' | '\r') {
                return Err(CelError::new(start, "the string does not end on its line: use three quotes"));
            }
            if next == '\\' && !raw {
                self.escape(bytes, &mut out)?;
                continue;
            }
            out.extend_from_slice(next.encode_utf8(&mut [0; 4]).as_bytes());
            self.at += next.len_utf8();
        }
        if bytes {
            return Ok(Some(Token::Bytes(out)));
        }
        String::from_utf8(out)
            .map(|text| Some(Token::Str(text)))
            .map_err(|_| CelError::new(start, "the string is not UTF-8"))
    }

    fn escape(&mut self, bytes: bool, out: &mut Vec<u8>) -> Result<(), CelError> {
        let start = self.at;
        let wrong =
            || CelError::new(start, "this escape is unknown: write `\\\\` for a backslash, or a raw string r'...'");
        let code = self.rest().chars().nth(1).ok_or_else(wrong)?;
        self.at += 1 + code.len_utf8();
        let simple = match code {
            'a' => 0x07,
            'b' => 0x08,
            'f' => 0x0c,
            'n' => b'\n',
            'r' => b'\r',
            't' => b'\t',
            'v' => 0x0b,
            '\\' | '?' | '"' | '\'' | '`' => u8::try_from(code).map_err(|_| wrong())?,
            _ => {
                let (digits, radix) = match code {
                    'x' | 'X' => (2, 16),
                    'u' if !bytes => (4, 16),
                    'U' if !bytes => (8, 16),
                    '0'..='3' => {
                        self.at -= 1;
                        (3, 8)
                    }
                    _ => return Err(wrong()),
                };
                let text = self.rest().get(..digits).ok_or_else(wrong)?;
                if !text.chars().all(|c| c.is_digit(radix)) {
                    return Err(wrong());
                }
                self.at += digits;
                let value = u32::from_str_radix(text, radix).map_err(|_| wrong())?;
                if bytes {
                    out.push(u8::try_from(value).map_err(|_| wrong())?);
                } else {
                    let c = char::from_u32(value).ok_or_else(wrong)?;
                    out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                }
                return Ok(());
            }
        };
        out.push(simple);
        Ok(())
    }
}
