//! DataFusion's parser with SQLite's precedence of operators: `1 || 2 * 3` is `(1 || 2) * 3` on both sides.

use std::any::TypeId;

use datafusion::sql::sqlparser::ast::{Expr, UnaryOperator};
use datafusion::sql::sqlparser::dialect::{Dialect, GenericDialect, Precedence};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::Token;

/// What DataFusion parses by default, but for the precedence.
#[derive(Debug)]
pub(super) struct Grammar;

// SQLite's levels, tightest first; `COLLATE` is the parser's own and tighter.
const UNARY: u8 = 48;
const CONCAT: u8 = 45;
const BITS: u8 = 25;
const ORDER: u8 = 21;
const EQUALITY: u8 = 20;

/// Answers as the generic dialect.
macro_rules! as_generic {
    ($($name:ident)*) => { $(fn $name(&self) -> bool { GenericDialect.$name() })* };
}

impl Dialect for Grammar {
    fn dialect(&self) -> TypeId {
        TypeId::of::<GenericDialect>()
    }

    fn is_identifier_start(&self, ch: char) -> bool {
        GenericDialect.is_identifier_start(ch)
    }

    fn is_identifier_part(&self, ch: char) -> bool {
        GenericDialect.is_identifier_part(ch)
    }

    fn is_delimited_identifier_start(&self, ch: char) -> bool {
        GenericDialect.is_delimited_identifier_start(ch)
    }

    fn prec_value(&self, precedence: Precedence) -> u8 {
        match precedence {
            Precedence::Between | Precedence::Eq | Precedence::Like | Precedence::Is => EQUALITY,
            Precedence::Ampersand | Precedence::Pipe => BITS,
            other => GenericDialect.prec_value(other),
        }
    }

    fn get_next_precedence(&self, parser: &Parser) -> Option<Result<u8, ParserError>> {
        match parser.peek_token_ref().token {
            Token::StringConcat | Token::Arrow | Token::LongArrow => Some(Ok(CONCAT)),
            Token::ShiftLeft | Token::ShiftRight => Some(Ok(BITS)),
            Token::Lt | Token::LtEq | Token::Gt | Token::GtEq => Some(Ok(ORDER)),
            _ => None,
        }
    }

    fn parse_prefix(&self, parser: &mut Parser) -> Option<Result<Expr, ParserError>> {
        let op = match parser.peek_token_ref().token {
            Token::Minus => UnaryOperator::Minus,
            Token::Plus => UnaryOperator::Plus,
            _ => return None,
        };
        parser.advance_token();
        Some(parser.parse_subexpr(UNARY).map(|expr| Expr::UnaryOp { op, expr: Box::new(expr) }))
    }

    /// The parser would take all that follows `IS DISTINCT FROM`, AND and OR included. It has `a IS NULL` for a whole, of which SQLite
    /// takes but the right side of IS: `a IS NULL || b` is `a IS (NULL || b)` there, and is left to it.
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

    as_generic! {
        supports_unicode_string_literal supports_partition_by_after_order_by supports_array_join_syntax
        supports_group_by_expr supports_group_by_with_modifier supports_left_associative_joins_without_parens
        supports_connect_by supports_match_recognize supports_pipe_operator supports_start_transaction_modifier
        supports_window_function_null_treatment_arg supports_dictionary_syntax
        supports_window_clause_named_window_reference supports_parenthesized_set_variables
        supports_select_wildcard_except support_map_literal_syntax allow_extract_custom allow_extract_single_quotes
        supports_extract_comma_syntax supports_create_view_comment_syntax supports_parens_around_table_factor
        supports_values_as_table_factor supports_create_index_with_clause supports_explain_with_utility_options
        supports_limit_comma supports_update_order_by supports_from_first_select supports_projection_trailing_commas
        supports_asc_desc_in_column_definition supports_try_convert supports_bitwise_shift_operators
        supports_comment_on supports_load_extension supports_named_fn_args_with_assignment_operator
        supports_struct_literal supports_empty_projections supports_nested_comments supports_multiline_comment_hints
        supports_user_host_grantee supports_string_escape_constant supports_array_typedef_with_brackets
        supports_match_against supports_set_names supports_comma_separated_set_assignments
        supports_filter_during_aggregation supports_select_wildcard_exclude supports_data_type_signed_suffix
        supports_interval_options supports_quote_delimited_string supports_select_wildcard_replace
        supports_select_wildcard_ilike supports_select_wildcard_rename supports_optimize_table supports_install
        supports_detach supports_prewhere supports_with_fill supports_limit_by supports_interpolate supports_settings
        supports_select_format supports_comment_optimizer_hint supports_constraint_keyword_without_name
        supports_key_column_option supports_comma_separated_trim supports_cte_without_as
        supports_select_item_multi_column_alias supports_xml_expressions
    }
}

/// The operator after `IS [NOT] NULL` and its like that binds tighter than IS.
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

    use super::super::parse::{Parsed, parse};
    use super::*;

    /// An expression with all its parentheses.
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
        let Ok(Parsed::Statements(statements)) = parse(&format!("SELECT {text}")) else { panic!("{text}") };
        let datafusion::sql::parser::Statement::Statement(statement) = &statements[0] else { panic!("{text}") };
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
