//! DataFusion's SQL parser with pgvector's operators `<->`, `<=>` and `<#>`, and with lambdas, in a
//! bounded number of steps.

use std::sync::atomic::{AtomicUsize, Ordering};

use datafusion::common::config::{Dialect as DialectName, SqlParserOptions};
use datafusion::common::{DataFusionError, Result, not_impl_err, plan_datafusion_err};
use datafusion::sql::parser::{DFParser, DFParserBuilder, Statement};
use datafusion::sql::sqlparser::ast::{
    CastKind, Expr, ExprWithAlias, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments,
    Ident, ObjectName,
};
use datafusion::sql::sqlparser::dialect::{Dialect, Precedence, dialect_from_str};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer};

use crate::deep;

/// Implements a `Dialect`'s basic methods as `GenericDialect`, which is DataFusion's default.
#[macro_export]
#[doc(hidden)]
macro_rules! generic_dialect_methods {
    () => {
        fn dialect(&self) -> std::any::TypeId {
            std::any::TypeId::of::<datafusion::sql::sqlparser::dialect::GenericDialect>()
        }

        fn is_identifier_start(&self, ch: char) -> bool {
            datafusion::sql::sqlparser::dialect::GenericDialect.is_identifier_start(ch)
        }

        fn is_identifier_part(&self, ch: char) -> bool {
            datafusion::sql::sqlparser::dialect::GenericDialect.is_identifier_part(ch)
        }

        fn is_delimited_identifier_start(&self, ch: char) -> bool {
            datafusion::sql::sqlparser::dialect::GenericDialect.is_delimited_identifier_start(ch)
        }

        $crate::generic_dialect_methods! {
            supports_unicode_string_literal supports_partition_by_after_order_by supports_array_join_syntax
            supports_group_by_expr supports_group_by_with_modifier supports_left_associative_joins_without_parens
            supports_connect_by supports_match_recognize supports_pipe_operator supports_start_transaction_modifier
            supports_window_function_null_treatment_arg supports_dictionary_syntax
            supports_window_clause_named_window_reference supports_parenthesized_set_variables
            supports_select_wildcard_except support_map_literal_syntax allow_extract_custom
            allow_extract_single_quotes supports_extract_comma_syntax supports_create_view_comment_syntax
            supports_parens_around_table_factor supports_values_as_table_factor supports_create_index_with_clause
            supports_explain_with_utility_options supports_limit_comma supports_update_order_by
            supports_from_first_select supports_projection_trailing_commas supports_asc_desc_in_column_definition
            supports_try_convert supports_bitwise_shift_operators supports_comment_on supports_load_extension
            supports_named_fn_args_with_assignment_operator supports_struct_literal supports_empty_projections
            supports_nested_comments supports_multiline_comment_hints supports_user_host_grantee
            supports_string_escape_constant supports_array_typedef_with_brackets supports_match_against
            supports_set_names supports_comma_separated_set_assignments supports_filter_during_aggregation
            supports_select_wildcard_exclude supports_data_type_signed_suffix supports_interval_options
            supports_quote_delimited_string supports_select_wildcard_replace supports_select_wildcard_ilike
            supports_select_wildcard_rename supports_optimize_table supports_install supports_detach
            supports_prewhere supports_with_fill supports_limit_by supports_interpolate supports_settings
            supports_select_format supports_comment_optimizer_hint supports_constraint_keyword_without_name
            supports_key_column_option supports_comma_separated_trim supports_cte_without_as
            supports_select_item_multi_column_alias supports_xml_expressions
        }
    };
    ($($name:ident)+) => {
        $(fn $name(&self) -> bool { datafusion::sql::sqlparser::dialect::GenericDialect.$name() })+
    };
}

/// A bound of the expressions that a parser begins.
///
/// sqlparser parses many forms as one thing and, where that fails, from their start as another, which
/// doubles the work at each level of nesting: an error below 30 levels of `POSITION(` would be looked
/// for without end. A dialect counts its expressions with this.
#[derive(Debug)]
pub struct ParserSteps(AtomicUsize);

impl ParserSteps {
    /// Creates the bound for a text of `tokens` tokens. Parsed once, it takes fewer steps than tokens.
    pub fn of(tokens: usize) -> Self {
        Self(AtomicUsize::new(20_000 + 100 * tokens))
    }

    /// Counts an expression. The error, for [`Dialect::parse_prefix`], ends the parser: no other
    /// makes it give up its alternatives.
    pub fn exceeded(&self) -> Option<Result<Expr, ParserError>> {
        let left = self.0.load(Ordering::Relaxed);
        self.0.store(left.saturating_sub(1), Ordering::Relaxed);
        (left == 0).then_some(Err(ParserError::RecursionLimitExceeded))
    }
}

/// The generic dialect with lambdas, and with pgvector's operators, which bind tighter than
/// comparisons and looser than `+`, as in PostgreSQL.
#[derive(Debug)]
struct VectorDialect(ParserSteps);

/// Returns the dialect in which a session's option has a text of `tokens` tokens parsed.
pub fn statement_dialect(name: DialectName, tokens: usize) -> Result<Box<dyn Dialect>> {
    match name {
        DialectName::Generic => Ok(Box::new(VectorDialect(ParserSteps::of(tokens)))),
        name => dialect_from_str(name).ok_or_else(|| plan_datafusion_err!("unknown SQL dialect {name}")),
    }
}

impl Dialect for VectorDialect {
    crate::generic_dialect_methods!();

    /// `array_transform(list, x -> x + 1)`.
    fn supports_lambda_functions(&self) -> bool {
        true
    }

    /// CAST, NOT and the like begin nothing else before a parenthesis. sqlparser would parse what
    /// is wrong in them once more as the call of a function, which doubles the work at each level:
    /// 50 of them within each other never ended.
    fn parse_prefix(&self, parser: &mut Parser) -> Option<Result<Expr, ParserError>> {
        if let Some(exceeded) = self.0.exceeded() {
            return Some(exceeded);
        }
        let Token::Word(word) = &parser.peek_token_ref().token else { return None };
        let (keyword, next) = (word.keyword, parser.peek_nth_token_ref(1).token.clone());
        let begins = match keyword {
            Keyword::NOT => true,
            Keyword::ARRAY => next == Token::LBracket,
            _ => next == Token::LParen,
        };
        if !begins {
            return None;
        }
        let mut parse = |rest: &dyn Fn(&mut Parser) -> Result<Expr, ParserError>| {
            parser.next_token();
            Some(rest(parser))
        };
        match keyword {
            Keyword::NOT => parse(&|parser| parser.parse_not()),
            Keyword::CAST => parse(&|parser| parser.parse_cast_expr(CastKind::Cast)),
            Keyword::TRY_CAST => parse(&|parser| parser.parse_cast_expr(CastKind::TryCast)),
            Keyword::SAFE_CAST => parse(&|parser| parser.parse_cast_expr(CastKind::SafeCast)),
            Keyword::CONVERT => parse(&|parser| parser.parse_convert_expr(false)),
            Keyword::CEIL => parse(&|parser| parser.parse_ceil_floor_expr(true)),
            Keyword::FLOOR => parse(&|parser| parser.parse_ceil_floor_expr(false)),
            Keyword::ARRAY => parse(&|parser| {
                parser.expect_token(&Token::LBracket)?;
                parser.parse_array_expr(true)
            }),
            Keyword::SUBSTR | Keyword::SUBSTRING => Some(parser.parse_substring()),
            Keyword::TRIM => parse(&|parser| parser.parse_trim_expr()),
            Keyword::OVERLAY => parse(&parse_overlay),
            _ => None,
        }
    }

    /// sqlparser would take everything after `IS DISTINCT FROM` for its right side, AND and OR
    /// included.
    fn parse_infix(&self, parser: &mut Parser, expr: &Expr, _: u8) -> Option<Result<Expr, ParserError>> {
        let is_negated = if parser.parse_keywords(&[Keyword::IS, Keyword::DISTINCT, Keyword::FROM]) {
            false
        } else if parser.parse_keywords(&[Keyword::IS, Keyword::NOT, Keyword::DISTINCT, Keyword::FROM]) {
            true
        } else {
            return None;
        };
        let (left, right) = (Box::new(expr.clone()), parser.parse_subexpr(self.prec_value(Precedence::Is)));
        Some(right.map(|right| match is_negated {
            true => Expr::IsNotDistinctFrom(left, Box::new(right)),
            false => Expr::IsDistinctFrom(left, Box::new(right)),
        }))
    }

    fn get_next_precedence(&self, parser: &Parser) -> Option<Result<u8, ParserError>> {
        is_vector_operator(&parser.peek_token_ref().token).then(|| Ok(self.prec_value(Precedence::Pipe)))
    }
}

/// Parses `OVERLAY(text PLACING ... FROM ... [FOR ...])`, or a call `OVERLAY(text, ...)`, after its
/// first word.
fn parse_overlay(parser: &mut Parser) -> Result<Expr, ParserError> {
    let name = Ident::with_span(parser.get_current_token().span, parser.get_current_token().token.to_string());
    parser.expect_token(&Token::LParen)?;
    let text = parser.parse_expr()?;
    if parser.parse_keyword(Keyword::PLACING) {
        let what = parser.parse_expr()?;
        parser.expect_keyword_is(Keyword::FROM)?;
        let from = parser.parse_expr()?;
        let length = parser.parse_keyword(Keyword::FOR).then(|| parser.parse_expr()).transpose()?;
        parser.expect_token(&Token::RParen)?;
        return Ok(Expr::Overlay {
            expr: Box::new(text),
            overlay_what: Box::new(what),
            overlay_from: Box::new(from),
            overlay_for: length.map(Box::new),
        });
    }
    let mut arguments = vec![text];
    if parser.consume_token(&Token::Comma) {
        arguments.extend(parser.parse_comma_separated(Parser::parse_expr)?);
    }
    parser.expect_token(&Token::RParen)?;
    let args = arguments.into_iter().map(|argument| FunctionArg::Unnamed(FunctionArgExpr::Expr(argument))).collect();
    Ok(Expr::Function(Function {
        name: ObjectName::from(vec![name]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList { duplicate_treatment: None, args, clauses: vec![] }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: vec![],
    }))
}

/// Returns true if a token is one of pgvector's operators, after [`join_vector_operators`].
pub fn is_vector_operator(token: &Token) -> bool {
    match token {
        Token::Spaceship => true,
        Token::CustomBinaryOperator(operator) => matches!(operator.as_str(), L2 | NEGATIVE_INNER_PRODUCT),
        _ => false,
    }
}

pub(crate) const L2: &str = "<->";
pub(crate) const NEGATIVE_INNER_PRODUCT: &str = "<#>";

/// Makes one token of each `<->` and `<#>`, which tokenizers of dialects other than PostgreSQL's
/// split. Nothing else is written as `<` followed at once by `->` or `#>`.
pub fn join_vector_operators(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    if !tokens.iter().any(|token| matches!(token.token, Token::Lt)) {
        return tokens;
    }
    let mut joined: Vec<TokenWithSpan> = Vec::with_capacity(tokens.len());
    for token in tokens {
        let is_after = |at: usize, expected: &dyn Fn(&Token) -> bool| {
            let Some(first) = joined.len().checked_sub(at) else { return false };
            let next = joined.get(first + 1).unwrap_or(&token);
            expected(&joined[first].token) && joined[first].span.end == next.span.start
        };
        let is_less = |token: &Token| matches!(token, Token::Lt);
        let is_hash =
            |token: &Token| matches!(token, Token::Word(word) if word.value == "#" && word.quote_style.is_none());
        let (operator, parts) = match &token.token {
            Token::Arrow if is_after(1, &is_less) => (L2, 1),
            Token::HashArrow if is_after(1, &is_less) => (NEGATIVE_INNER_PRODUCT, 1),
            // The generic dialect takes # for the name of a column.
            Token::Gt if is_after(1, &is_hash) && is_after(2, &is_less) => (NEGATIVE_INNER_PRODUCT, 2),
            _ => {
                joined.push(token);
                continue;
            }
        };
        let mut span = token.span;
        for part in joined.drain(joined.len() - parts..).rev() {
            span.start = part.span.start;
        }
        joined.push(TokenWithSpan { token: Token::CustomBinaryOperator(operator.into()), span });
    }
    joined
}

/// Parses one SQL statement by the session's options (`datafusion.sql_parser.*`).
///
/// # Errors
/// Text that is no SQL, more than one statement, and none.
pub fn parse_statement(sql: &str, options: &SqlParserOptions) -> Result<Statement> {
    let mut statements = parse_with(sql, options, |mut parser| parser.parse_statements())?;
    if statements.len() > 1 {
        return not_impl_err!("expected one SQL statement, got {}", statements.len());
    }
    statements.pop_front().ok_or_else(|| plan_datafusion_err!("expected a SQL statement, got none"))
}

/// Parses one SQL expression by the session's options.
///
/// # Errors
/// Text that is no expression, and more than one.
pub fn parse_expression(sql: &str, options: &SqlParserOptions) -> Result<ExprWithAlias> {
    parse_with(sql, options, |mut parser| parser.parse_into_expr())
}

fn parse_with<T>(sql: &str, options: &SqlParserOptions, parse: impl FnOnce(DFParser) -> Result<T>) -> Result<T> {
    // No text has more tokens than bytes.
    let dialect = statement_dialect(options.dialect, sql.len())?;
    let syntax = |error: ParserError| DataFusionError::SQL(Box::new(error), None);
    let tokens =
        Tokenizer::new(dialect.as_ref(), sql).tokenize_with_location().map_err(|error| syntax(error.into()))?;
    deep::check(&tokens).map_err(|problem| syntax(ParserError::ParserError(problem)))?;
    let parser = DFParserBuilder::new(join_vector_operators(tokens))
        .with_dialect(dialect.as_ref())
        .with_recursion_limit(options.recursion_limit.get())
        .build()?;
    parse(parser)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 45 levels of each form around an error. Without the bound, and the forms that the dialect
    /// parses itself, these take 2^45 steps.
    #[test]
    fn an_error_below_nested_forms_is_found() {
        let forms = [
            ("CAST(", " AS INT)"),
            ("TRY_CAST(", " AS INT)"),
            ("NOT (", ")"),
            ("CEIL(", ")"),
            ("TRIM(", ")"),
            ("TRIM(BOTH 'x' FROM ", ")"),
            ("OVERLAY(", " PLACING 'x' FROM 1)"),
            ("OVERLAY(", ", 'x', 1)"),
            ("POSITION(", " IN 'x')"),
            ("POSITION('x' IN ", ")"),
            ("EXTRACT(YEAR FROM ", ")"),
            ("SUBSTRING(", " FROM 1)"),
            ("STRUCT(", ")"),
            ("ARRAY[", "]"),
            ("ARRAY(SELECT ", ")"),
            ("EXISTS(SELECT ", ")"),
            ("CASE WHEN ", " THEN 1 END"),
            ("f(", ")"),
            ("f(x -> ", ")"),
            ("(", ")"),
            ("(SELECT ", ")"),
            ("1 IN (", ")"),
            ("1 IN (SELECT ", ")"),
            ("INTERVAL (", ") DAY"),
        ];
        for (open, close) in forms {
            for error in ["1 +", "1 1 1", "'"] {
                let sql = format!("SELECT {}{error}{}", open.repeat(45), close.repeat(45));
                let parsed = parse_statement(&sql, &SqlParserOptions::default());
                assert!(parsed.is_err(), "{open}");
            }
        }
        for from in ["(", "(SELECT * FROM ", "LATERAL (", "a JOIN ("] {
            let sql = format!("SELECT * FROM {}a 1 1{}", from.repeat(45), ")".repeat(45));
            assert!(parse_statement(&sql, &SqlParserOptions::default()).is_err(), "{from}");
        }
    }

    #[test]
    fn is_distinct_from_binds_tighter_than_and() {
        for (sql, left, operator) in [
            ("a IS DISTINCT FROM b AND c", "a IS DISTINCT FROM b", "AND"),
            ("a IS NOT DISTINCT FROM b + 1 OR c AND d", "a IS NOT DISTINCT FROM b + 1", "OR"),
            ("p AND a IS DISTINCT FROM b = c OR d", "p AND a IS DISTINCT FROM b = c", "OR"),
            ("NOT a IS DISTINCT FROM b AND c", "NOT a IS DISTINCT FROM b", "AND"),
        ] {
            let parsed = parse_expression(sql, &SqlParserOptions::default()).unwrap().expr;
            let Expr::BinaryOp { left: found, op, .. } = &parsed else { panic!("{sql}: {parsed:?}") };
            assert_eq!((found.to_string().as_str(), op.to_string().as_str()), (left, operator), "{sql}");
        }
    }

    #[test]
    fn overlay_is_parsed_in_both_forms() {
        for sql in
            ["OVERLAY('abc' PLACING 'x' FROM 2 FOR 1)", "OVERLAY('abc' PLACING 'x' FROM 2)", "OVERLAY('abc', 'x', 2)"]
        {
            let parsed = parse_expression(sql, &SqlParserOptions::default()).unwrap();
            assert_eq!(parsed.expr.to_string(), sql);
        }
    }
}
