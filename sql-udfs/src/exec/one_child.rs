//! The methods that each operator with one child would write alike.

/// Writes the methods of an `ExecutionPlan` with one child: its name, `properties`, the child, a new
/// child and the expressions (none, if they are not given). More partitions of the child are of no
/// use to it.
///
/// Arguments are the type, the field of the child, the operator over another child and the
/// expressions.
#[macro_export]
macro_rules! one_child_plan {
    ($node:ident, $child:ident, |$self:ident, $input:ident| $with:expr) => {
        $crate::one_child_plan!(
            $node,
            $child,
            |$self, $input| $with,
            None::<&::std::sync::Arc<dyn ::datafusion::physical_expr::PhysicalExpr>>
        );
    };
    ($node:ident, $child:ident, |$self:ident, $input:ident| $with:expr, $expressions:expr) => {
        fn name(&self) -> &str {
            stringify!($node)
        }

        fn properties(&self) -> &::std::sync::Arc<::datafusion::physical_plan::PlanProperties> {
            &self.properties
        }

        fn children(&self) -> Vec<&::std::sync::Arc<dyn ::datafusion::physical_plan::ExecutionPlan>> {
            vec![&self.$child]
        }

        fn benefits_from_input_partitioning(&self) -> Vec<bool> {
            vec![false]
        }

        fn apply_expressions(
            &$self,
            f: &mut dyn FnMut(
                &::std::sync::Arc<dyn ::datafusion::physical_expr::PhysicalExpr>,
            ) -> ::datafusion::common::Result<::datafusion::common::tree_node::TreeNodeRecursion>,
        ) -> ::datafusion::common::Result<::datafusion::common::tree_node::TreeNodeRecursion> {
            ::datafusion::physical_plan::apply_expression_roots($expressions, f)
        }

        fn replace_children(
            $self: ::std::sync::Arc<Self>,
            children: Vec<::std::sync::Arc<dyn ::datafusion::physical_plan::ExecutionPlan>>,
            _: ::datafusion::physical_plan::execution_plan::ReplaceChildrenOptions,
        ) -> ::datafusion::common::Result<::std::sync::Arc<dyn ::datafusion::physical_plan::ExecutionPlan>> {
            match <[_; 1]>::try_from(children) {
                Ok([$input]) => Ok(::std::sync::Arc::new($with)),
                Err(others) => ::datafusion::common::internal_err!(
                    "{} has one child, got {}",
                    stringify!($node),
                    others.len()
                ),
            }
        }

        fn with_new_children(
            self: ::std::sync::Arc<Self>,
            children: Vec<::std::sync::Arc<dyn ::datafusion::physical_plan::ExecutionPlan>>,
        ) -> ::datafusion::common::Result<::std::sync::Arc<dyn ::datafusion::physical_plan::ExecutionPlan>> {
            use ::datafusion::physical_plan::execution_plan::{ChildrenPropertiesMode, ReplaceChildrenOptions};
            self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
        }
    };
}
