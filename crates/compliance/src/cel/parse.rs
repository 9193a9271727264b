//! Syntax of CEL: precedence climbing, with a limit on size, nesting and the height of the tree (a long chain of `+` makes a tall
//! tree without any parenthesis).

use super::lex::{Token, tokens};
use super::{CelError, Literal};

/// Longest expression, in bytes.
pub(super) const EXPRESSION_BYTES: usize = 16 * 1_024;
/// Deepest nesting of parentheses, brackets, arguments and unary operators.
const NESTING: usize = 48;
/// Tallest tree.
const HEIGHT: usize = 128;

/// A node of the syntax tree.
#[derive(Debug)]
pub(super) struct Ast {
    pub(super) kind: Kind,
    pub(super) at: usize,
    height: usize,
}

#[derive(Debug)]
pub(super) enum Kind {
    Literal(Literal),
    Ident(String),
    Select(Box<Ast>, String),
    Index(Box<Ast>, Box<Ast>),
    Call {
        target: Option<Box<Ast>>,
        name: String,
        args: Vec<Ast>,
    },
    List(Vec<Ast>),
    Map(Vec<(Ast, Ast)>),
    Not(Box<Ast>),
    Negate(Box<Ast>),
    /// `&&` or `||` over two or more operands.
    Logic(Logic, Vec<Ast>),
    Binary(Operator, Box<Ast>, Box<Ast>),
    Ternary(Box<[Ast; 3]>),
}

/// A logical operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Logic {
    And,
    Or,
}

/// A binary operator that looks at both sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    In,
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
}

const RESERVED: [&str; 17] = [
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

/// Parses a whole expression.
pub(super) fn parse(text: &str) -> Result<Ast, CelError> {
    if text.len() > EXPRESSION_BYTES {
        return Err(CelError::new(
            0,
            format!("the expression is longer than {EXPRESSION_BYTES} bytes: split the rule"),
        ));
    }
    let mut parser = Parser { tokens: tokens(text)?, next: 0, nesting: 0 };
    let ast = parser.expression()?;
    match parser.peek() {
        (Token::End, _) => Ok(ast),
        (token, at) => Err(CelError::new(at, format!("{} was not expected here", describe(token)))),
    }
}

fn describe(token: &Token) -> String {
    match token {
        Token::Ident(name) => format!("`{name}`"),
        Token::Op(op) => format!("`{op}`"),
        Token::End => "the end of the expression".to_owned(),
        _ => "a literal".to_owned(),
    }
}

struct Parser {
    tokens: Vec<(Token, usize)>,
    next: usize,
    nesting: usize,
}

const END: Token = Token::End;

impl Parser {
    fn peek(&self) -> (&Token, usize) {
        self.tokens.get(self.next).map_or((&END, 0), |(token, at)| (token, *at))
    }

    fn accept(&mut self, op: &str) -> bool {
        let found = matches!(self.peek().0, Token::Op(have) if *have == op);
        self.next += usize::from(found);
        found
    }

    fn expect(&mut self, op: &str) -> Result<(), CelError> {
        if self.accept(op) {
            return Ok(());
        }
        let (token, at) = self.peek();
        Err(CelError::new(at, format!("`{op}` was expected, not {}", describe(token))))
    }

    fn node(kind: Kind, at: usize) -> Result<Ast, CelError> {
        let one = |ast: &Ast| ast.height;
        let many = |list: &[Ast]| list.iter().map(one).max().unwrap_or(0);
        let below = match &kind {
            Kind::Literal(_) | Kind::Ident(_) => 0,
            Kind::Select(a, _) | Kind::Not(a) | Kind::Negate(a) => a.height,
            Kind::Index(a, b) | Kind::Binary(_, a, b) => a.height.max(b.height),
            Kind::Call { target, args, .. } => target.as_deref().map_or(0, one).max(many(args)),
            Kind::List(list) | Kind::Logic(_, list) => many(list),
            Kind::Map(entries) => entries.iter().map(|(k, v)| k.height.max(v.height)).max().unwrap_or(0),
            Kind::Ternary(parts) => many(parts.as_slice()),
        };
        if below >= HEIGHT {
            return Err(CelError::new(at, format!("the expression is more than {HEIGHT} operations deep")));
        }
        Ok(Ast { kind, at, height: below + 1 })
    }

    fn nested<T>(&mut self, at: usize, inner: impl FnOnce(&mut Self) -> Result<T, CelError>) -> Result<T, CelError> {
        if self.nesting >= NESTING {
            return Err(CelError::new(at, format!("the expression is nested more than {NESTING} deep")));
        }
        self.nesting += 1;
        let out = inner(self);
        self.nesting -= 1;
        out
    }

    fn expression(&mut self) -> Result<Ast, CelError> {
        let at = self.peek().1;
        self.nested(at, |parser| {
            let condition = parser.logic(Logic::Or)?;
            let at = parser.peek().1;
            if !parser.accept("?") {
                return Ok(condition);
            }
            let yes = parser.logic(Logic::Or)?;
            parser.expect(":")?;
            let no = parser.expression()?;
            Self::node(Kind::Ternary(Box::new([condition, yes, no])), at)
        })
    }

    fn logic(&mut self, logic: Logic) -> Result<Ast, CelError> {
        let op = if logic == Logic::Or { "||" } else { "&&" };
        let operand = |parser: &mut Self| match logic {
            Logic::Or => parser.logic(Logic::And),
            Logic::And => parser.binary(0),
        };
        let first = operand(self)?;
        let at = self.peek().1;
        if !self.accept(op) {
            return Ok(first);
        }
        let mut all = vec![first, operand(self)?];
        while self.accept(op) {
            all.push(operand(self)?);
        }
        Self::node(Kind::Logic(logic, all), at)
    }

    fn operator(&self) -> Option<(Operator, u8)> {
        let (token, _) = self.peek();
        let op = match token {
            Token::Op(op) => *op,
            Token::Ident(name) if name == "in" => "in",
            _ => return None,
        };
        Some(match op {
            "==" => (Operator::Equal, 1),
            "!=" => (Operator::NotEqual, 1),
            "<" => (Operator::Less, 1),
            "<=" => (Operator::LessEqual, 1),
            ">" => (Operator::Greater, 1),
            ">=" => (Operator::GreaterEqual, 1),
            "in" => (Operator::In, 1),
            "+" => (Operator::Add, 2),
            "-" => (Operator::Subtract, 2),
            "*" => (Operator::Multiply, 3),
            "/" => (Operator::Divide, 3),
            "%" => (Operator::Modulo, 3),
            _ => return None,
        })
    }

    fn binary(&mut self, above: u8) -> Result<Ast, CelError> {
        let mut left = self.unary()?;
        while let Some((operator, precedence)) = self.operator().filter(|(_, precedence)| *precedence > above) {
            let at = self.peek().1;
            self.next += 1;
            let right = self.binary(precedence)?;
            left = Self::node(Kind::Binary(operator, Box::new(left), Box::new(right)), at)?;
        }
        Ok(left)
    }

    fn unary(&mut self) -> Result<Ast, CelError> {
        let at = self.peek().1;
        if self.accept("!") {
            let operand = self.nested(at, Self::unary)?;
            return Self::node(Kind::Not(Box::new(operand)), at);
        }
        if self.accept("-") {
            if let (&Token::Int(magnitude), _) = self.peek() {
                self.next += 1;
                let value = 0i64
                    .checked_sub_unsigned(magnitude)
                    .ok_or_else(|| CelError::new(at, "the number does not fit in a signed 64-bit integer"))?;
                let literal = Self::node(Kind::Literal(Literal::Int(value)), at)?;
                return self.postfix(literal);
            }
            let operand = self.nested(at, Self::unary)?;
            return Self::node(Kind::Negate(Box::new(operand)), at);
        }
        let primary = self.primary()?;
        self.postfix(primary)
    }

    fn postfix(&mut self, mut ast: Ast) -> Result<Ast, CelError> {
        loop {
            let at = self.peek().1;
            if self.accept(".") {
                let name_at = self.peek().1;
                let name = self.name()?;
                let target = Box::new(ast);
                ast = if self.accept("(") {
                    let args = self.list(")")?;
                    Self::node(Kind::Call { target: Some(target), name, args }, name_at)?
                } else {
                    Self::node(Kind::Select(target, name), name_at)?
                };
            } else if self.accept("[") {
                let index = self.expression()?;
                self.expect("]")?;
                ast = Self::node(Kind::Index(Box::new(ast), Box::new(index)), at)?;
            } else {
                return Ok(ast);
            }
        }
    }

    fn name(&mut self) -> Result<String, CelError> {
        let (token, at) = self.peek();
        match token {
            Token::Ident(name) if !matches!(name.as_str(), "in" | "true" | "false" | "null") => {
                let name = name.clone();
                self.next += 1;
                Ok(name)
            }
            other => Err(CelError::new(at, format!("a name was expected, not {}", describe(other)))),
        }
    }

    /// Comma-separated expressions up to `close`; a comma may follow the last.
    fn list(&mut self, close: &'static str) -> Result<Vec<Ast>, CelError> {
        let mut out = Vec::new();
        while !self.accept(close) {
            out.push(self.expression()?);
            if !self.accept(",") {
                self.expect(close)?;
                break;
            }
        }
        Ok(out)
    }

    fn primary(&mut self) -> Result<Ast, CelError> {
        let (token, at) = self.peek();
        let token = token.clone();
        let literal = |value| Self::node(Kind::Literal(value), at);
        self.next += 1;
        match token {
            Token::Int(magnitude) => match i64::try_from(magnitude) {
                Ok(value) => literal(Literal::Int(value)),
                Err(_) => Err(CelError::new(at, "the number does not fit in a signed 64-bit integer")),
            },
            Token::Uint(value) => literal(Literal::Uint(value)),
            Token::Double(value) => literal(Literal::Double(value)),
            Token::Str(value) => literal(Literal::Str(value.into())),
            Token::Bytes(value) => literal(Literal::Bytes(value.into())),
            Token::Ident(name) => match name.as_str() {
                "true" => literal(Literal::Bool(true)),
                "false" => literal(Literal::Bool(false)),
                "null" => literal(Literal::Null),
                "in" => Err(CelError::new(at, "`in` needs a value before it")),
                word if RESERVED.contains(&word) => {
                    Err(CelError::new(at, format!("`{word}` is a reserved word of CEL")))
                }
                _ if self.accept("(") => {
                    let args = self.list(")")?;
                    Self::node(Kind::Call { target: None, name, args }, at)
                }
                _ => Self::node(Kind::Ident(name), at),
            },
            Token::Op("(") => {
                let inner = self.expression()?;
                self.expect(")")?;
                Ok(inner)
            }
            Token::Op("[") => {
                let items = self.list("]")?;
                Self::node(Kind::List(items), at)
            }
            Token::Op("{") => {
                let mut entries = Vec::new();
                while !self.accept("}") {
                    let key = self.expression()?;
                    self.expect(":")?;
                    entries.push((key, self.expression()?));
                    if !self.accept(",") {
                        self.expect("}")?;
                        break;
                    }
                }
                Self::node(Kind::Map(entries), at)
            }
            other => Err(CelError::new(at, format!("a value was expected, not {}", describe(&other)))),
        }
    }
}
