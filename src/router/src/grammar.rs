//! DataFusion's parser with SQLite's precedence of operators: `1 || 2 * 3` is `(1 || 2) * 3` on
//! both sides.

use datafusion::sql::sqlparser::ast::{Expr, UnaryOperator};
use datafusion::sql::sqlparser::dialect::{Dialect, GenericDialect, Precedence};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::Token;
use vexact_sql::dialect::{ParserSteps, is_vector_operator};

/// DataFusion's default dialect, except for the precedence of operators.
#[derive(Debug)]
pub(super) struct Grammar(pub(super) ParserSteps);

// SQLite's precedence levels, tightest first; `COLLATE` has the parser's own, tighter level.
const UNARY: u8 = 48;
const CONCAT: u8 = 45;
const BITS: u8 = 25;
const ORDER: u8 = 21;
const EQUALITY: u8 = 20;

impl Dialect for Grammar {
    vexact_sql::generic_dialect_methods!();

    fn prec_value(&self, precedence: Precedence) -> u8 {
        match precedence {
            Precedence::Between | Precedence::Eq | Precedence::Like | Precedence::Is => EQUALITY,
            Precedence::Ampersand | Precedence::Pipe => BITS,
            other => GenericDialect.prec_value(other),
        }
    }

    fn get_next_precedence(&self, parser: &Parser) -> Option<Result<u8, ParserError>> {
        match &parser.peek_token_ref().token {
            operator if is_vector_operator(operator) => Some(Ok(BITS)),
            Token::StringConcat | Token::Arrow | Token::LongArrow => Some(Ok(CONCAT)),
            Token::ShiftLeft | Token::ShiftRight => Some(Ok(BITS)),
            Token::Lt | Token::LtEq | Token::Gt | Token::GtEq => Some(Ok(ORDER)),
            _ => None,
        }
    }

    fn parse_prefix(&self, parser: &mut Parser) -> Option<Result<Expr, ParserError>> {
        if let Some(exceeded) = self.0.exceeded() {
            return Some(exceeded);
        }
        let op = match parser.peek_token_ref().token {
            Token::Minus => UnaryOperator::Minus,
            Token::Plus => UnaryOperator::Plus,
            _ => return None,
        };
        parser.advance_token();
        Some(parser.parse_subexpr(UNARY).map(|expr| Expr::UnaryOp { op, expr: Box::new(expr) }))
    }

    /// Parses operators that the parser would parse differently. It would parse everything after
    /// `IS DISTINCT FROM`, including AND and OR. It treats `a IS NULL` as a complete operand,
    /// although SQLite applies a tighter operator to only the right side of IS: `a IS NULL || b` is
    /// `a IS (NULL || b)` there, so SQLite answers such a query.
    fn parse_infix(&self, parser: &mut Parser, expr: &Expr, _: u8) -> Option<Result<Expr, ParserError>> {
        if let Some(operator) = operator_after_is(parser) {
            return Some(Err(ParserError::ParserError(format!("expected the end of IS, got {operator}"))));
        }
        let left = || Box::new(expr.clone());
        if parser.parse_keywords(&[Keyword::IS, Keyword::DISTINCT, Keyword::FROM]) {
            let right = parser.parse_subexpr(EQUALITY);
            return Some(right.map(|right| Expr::IsDistinctFrom(left(), Box::new(right))));
        }
        if parser.parse_keywords(&[Keyword::IS, Keyword::NOT, Keyword::DISTINCT, Keyword::FROM]) {
            let right = parser.parse_subexpr(EQUALITY);
            return Some(right.map(|right| Expr::IsNotDistinctFrom(left(), Box::new(right))));
        }
        None
    }
}

/// Returns the operator after `IS [NOT] NULL` and similar operators that binds tighter than IS.
fn operator_after_is(parser: &Parser) -> Option<Token> {
    let keyword = |at| match &parser.peek_nth_token_ref(at).token {
        Token::Word(word) => word.keyword,
        _ => Keyword::NoKeyword,
    };
    let at = match (keyword(0), keyword(1)) {
        (Keyword::IS, Keyword::NOT) => 2,
        (Keyword::IS, _) => 1,
        _ => return None,
    };
    let is_constant = matches!(keyword(at), Keyword::NULL | Keyword::TRUE | Keyword::FALSE | Keyword::UNKNOWN);
    let operator = &parser.peek_nth_token_ref(at + 1).token;
    let binds_tighter = match operator {
        Token::StringConcat
        | Token::Arrow
        | Token::LongArrow
        | Token::Mul
        | Token::Div
        | Token::Mod
        | Token::Plus
        | Token::Minus
        | Token::Ampersand
        | Token::Pipe
        | Token::ShiftLeft
        | Token::ShiftRight
        | Token::Lt
        | Token::LtEq
        | Token::Gt
        | Token::GtEq => true,
        Token::Word(word) => word.keyword == Keyword::COLLATE,
        _ => false,
    };
    (is_constant && binds_tighter).then(|| operator.clone())
}

#[cfg(test)]
mod tests {
    use datafusion::sql::sqlparser::ast::{SelectItem, SetExpr, Statement};

    use super::super::parse::ParsedQuery;
    use super::*;

    /// Writes an expression with all its parentheses.
    fn nested(expr: &Expr) -> String {
        match expr {
            Expr::Nested(inner) => nested(inner),
            Expr::BinaryOp { left, op, right } => format!("({} {op} {})", nested(left), nested(right)),
            Expr::UnaryOp { op, expr } => format!("({op} {})", nested(expr)),
            Expr::IsNull(expr) => format!("({} IS NULL)", nested(expr)),
            Expr::Like { expr, pattern, .. } => format!("({} LIKE {})", nested(expr), nested(pattern)),
            Expr::Between { expr, low, high, .. } => {
                format!("({} BETWEEN {} AND {})", nested(expr), nested(low), nested(high))
            }
            Expr::IsDistinctFrom(a, b) => format!("({} IS DISTINCT FROM {})", nested(a), nested(b)),
            Expr::IsNotDistinctFrom(a, b) => format!("({} IS NOT DISTINCT FROM {})", nested(a), nested(b)),
            Expr::Collate { expr, collation } => format!("({} COLLATE {collation})", nested(expr)),
            other => other.to_string(),
        }
    }

    fn parsed(text: &str) -> String {
        let query = ParsedQuery::parse(&format!("SELECT {text}")).unwrap();
        let datafusion::sql::parser::Statement::Statement(statement) = query.statement().unwrap() else {
            panic!("{text}")
        };
        let Statement::Query(query) = statement.as_ref() else { panic!("{text}") };
        let SetExpr::Select(select) = query.body.as_ref() else { panic!("{text}") };
        let SelectItem::UnnamedExpr(expr) = &select.projection[0] else { panic!("{text}") };
        nested(expr)
    }

    #[test]
    fn operators_bind_as_in_sqlite() {
        for (text, expected) in [
            ("1 || 2 * 3", "((1 || 2) * 3)"),
            ("2 * 1 || 3", "(2 * (1 || 3))"),
            ("-a || b", "((- a) || b)"),
            ("- - a * b", "((- (- a)) * b)"),
            ("a - -b - c", "((a - (- b)) - c)"),
            ("a -> 'x' = b", "((a -> 'x') = b)"),
            ("a = b < c", "(a = (b < c))"),
            ("a < b = c", "((a < b) = c)"),
            ("a < b < c", "((a < b) < c)"),
            ("a LIKE b = c", "((a LIKE b) = c)"),
            ("a = b LIKE c", "((a = b) LIKE c)"),
            ("a = b IS NULL", "((a = b) IS NULL)"),
            ("a < b IS NULL", "((a < b) IS NULL)"),
            ("a & b + c", "(a & (b + c))"),
            ("a | b & c", "((a | b) & c)"),
            ("a << b & c", "((a << b) & c)"),
            ("a & b < c", "((a & b) < c)"),
            ("a BETWEEN b AND c = d", "((a BETWEEN b AND c) = d)"),
            ("a IS DISTINCT FROM b AND c", "((a IS DISTINCT FROM b) AND c)"),
            ("a IS NOT DISTINCT FROM b + 1 OR c", "((a IS NOT DISTINCT FROM (b + 1)) OR c)"),
            ("NOT a = b", "(NOT (a = b))"),
            ("NOT a IS NULL AND b", "((NOT (a IS NULL)) AND b)"),
            ("a OR b AND c", "(a OR (b AND c))"),
            ("a || b COLLATE nocase = c", "((a || (b COLLATE nocase)) = c)"),
        ] {
            assert_eq!(parsed(text), expected, "{text}");
        }
    }
}
