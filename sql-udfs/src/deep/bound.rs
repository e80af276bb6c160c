//! An upper bound of a syntax tree's depth, computed from the tokens.

use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

/// Tokens of one expression and of those around it. A tree is at most half as deep.
const MAX_CHAIN: usize = 6_000;
/// Conditions that AND and OR connect, those of the conditions around them included. Their trees
/// are balanced.
const MAX_CONDITIONS: usize = 20_000;

/// Rejects a text whose syntax tree would be too deep.
///
/// # Errors
/// The number of tokens or conditions that is too large, expected and got.
pub fn check(tokens: &[TokenWithSpan]) -> Result<(), String> {
    // Too short for any of the limits.
    if tokens.len() <= MAX_CHAIN {
        return Ok(());
    }
    let Chain { tokens: chain, conditions } = longest_chain(tokens);
    if chain > MAX_CHAIN {
        return Err(format!("expected an expression of at most {MAX_CHAIN} tokens, got {chain}"));
    }
    if conditions > MAX_CONDITIONS {
        return Err(format!("expected at most {MAX_CONDITIONS} conditions between AND and OR, got {conditions}"));
    }
    Ok(())
}

/// The longest run of tokens, and of conditions, from the root of a tree to a leaf.
#[derive(Debug, PartialEq, Eq)]
struct Chain {
    tokens: usize,
    conditions: usize,
}

/// The tokens between two parentheses. `chain` begins again with each expression of a list and each
/// condition; the set operations of a query are one tree.
#[derive(Default)]
struct Level {
    chain: usize,
    set_operations: usize,
    conditions: usize,
    /// BETWEEN whose AND is to come.
    ranges: usize,
}

impl Level {
    fn next_expression(&mut self) {
        *self = Self { set_operations: self.set_operations, ..Self::default() };
    }
}

/// `tokens` is an upper bound of twice the depth of the syntax tree without its conditions, where
/// each parenthesis and CASE adds to what is around it.
fn longest_chain(tokens: &[TokenWithSpan]) -> Chain {
    let (mut open, mut level) = (Vec::new(), Level::default());
    let mut around = Chain { tokens: 0, conditions: 0 };
    let mut longest = Chain { tokens: 0, conditions: 0 };
    for token in tokens {
        let keyword = match &token.token {
            Token::Word(word) => word.keyword,
            _ => Keyword::NoKeyword,
        };
        match (&token.token, keyword) {
            (Token::Whitespace(_), _) => continue,
            (Token::LParen | Token::LBracket, _) | (_, Keyword::CASE) => {
                around.tokens += level.chain + level.set_operations;
                around.conditions += level.conditions;
                open.push(std::mem::take(&mut level));
            }
            (Token::RParen | Token::RBracket, _) | (_, Keyword::END) => {
                level = open.pop().unwrap_or_default();
                around.tokens -= level.chain + level.set_operations;
                around.conditions -= level.conditions;
                level.chain += 1;
            }
            (_, Keyword::UNION | Keyword::EXCEPT | Keyword::INTERSECT | Keyword::MINUS) => {
                level = Level { set_operations: level.set_operations + 2, ..Level::default() };
            }
            (Token::Comma | Token::SemiColon, _) | (_, Keyword::WHEN | Keyword::THEN | Keyword::ELSE) => {
                level.next_expression();
            }
            (_, Keyword::BETWEEN) => {
                level.chain += 1;
                level.ranges += 1;
            }
            (_, Keyword::AND) if level.ranges > 0 => {
                level.chain += 1;
                level.ranges -= 1;
            }
            (_, Keyword::AND | Keyword::OR) => {
                level.chain = 0;
                level.conditions += 1;
            }
            _ => level.chain += 1,
        }
        longest.tokens = longest.tokens.max(around.tokens + level.chain + level.set_operations);
        longest.conditions = longest.conditions.max(around.conditions + level.conditions);
    }
    longest
}

#[cfg(test)]
mod tests {
    use datafusion::sql::sqlparser::dialect::GenericDialect;
    use datafusion::sql::sqlparser::tokenizer::Tokenizer;

    use super::*;

    fn chain(sql: &str) -> (usize, usize) {
        let tokens = Tokenizer::new(&GenericDialect {}, sql).tokenize_with_location().unwrap();
        let Chain { tokens, conditions } = longest_chain(&tokens);
        (tokens, conditions)
    }

    #[test]
    fn a_chain_ends_at_a_comma_a_condition_and_a_set_operation() {
        assert_eq!(chain("1 + 1 + 1"), (5, 0));
        assert_eq!(chain("1 + 1, 1"), (3, 0));
        assert_eq!(chain("a = 1 OR b = 2 AND c = 3"), (3, 2));
        assert_eq!(chain("x UNION ALL y UNION ALL z"), (6, 0));
        assert_eq!(chain("(1 + 1) + 1"), (3, 0));
        assert_eq!(chain("1 + 1 + (2 + 2)"), (7, 0));
    }

    #[test]
    fn the_and_of_between_continues_a_chain() {
        assert_eq!(chain("a BETWEEN 1 AND 2 BETWEEN 3 AND 4"), (9, 0));
        assert_eq!(chain("a BETWEEN 1 AND 2 AND b"), (5, 1));
    }

    #[test]
    fn conditions_in_parentheses_add_to_those_around_them() {
        assert_eq!(chain("a OR b OR (c AND d)").1, 3);
        assert_eq!(chain("(a OR b) OR (c AND d)").1, 2);
    }
}
