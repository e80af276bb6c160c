//! Aggregates that delegate to DataFusion's, except for some argument types.

/// Implements methods of `AggregateUDFImpl` as those of the `Arc<AggregateUDF>` in a field.
#[macro_export]
#[doc(hidden)]
macro_rules! delegate_to_aggregate {
    ($field:tt: $($method:ident)+) => { $($crate::delegate_to_aggregate!(@ $field $method);)+ };
    (@ $field:tt name) => {
        fn name(&self) -> &str {
            self.$field.name()
        }
    };
    (@ $field:tt aliases) => {
        fn aliases(&self) -> &[String] {
            self.$field.aliases()
        }
    };
    (@ $field:tt signature) => {
        fn signature(&self) -> &datafusion::logical_expr::Signature {
            self.$field.signature()
        }
    };
    (@ $field:tt return_type) => {
        fn return_type(
            &self,
            arguments: &[arrow::datatypes::DataType],
        ) -> datafusion::common::Result<arrow::datatypes::DataType> {
            self.$field.return_type(arguments)
        }
    };
    (@ $field:tt groups_accumulator_supported) => {
        fn groups_accumulator_supported(&self, args: datafusion::logical_expr::function::AccumulatorArgs) -> bool {
            self.$field.groups_accumulator_supported(args)
        }
    };
    (@ $field:tt reverse_expr) => {
        fn reverse_expr(&self) -> datafusion::logical_expr::ReversedUDAF {
            self.$field.reverse_udf()
        }
    };
    (@ $field:tt order_sensitivity) => {
        fn order_sensitivity(&self) -> datafusion::logical_expr::utils::AggregateOrderSensitivity {
            self.$field.order_sensitivity()
        }
    };
    (@ $field:tt default_value) => {
        fn default_value(
            &self,
            data_type: &arrow::datatypes::DataType,
        ) -> datafusion::common::Result<datafusion::common::ScalarValue> {
            self.$field.default_value(data_type)
        }
    };
    (@ $field:tt set_monotonicity) => {
        fn set_monotonicity(
            &self,
            data_type: &arrow::datatypes::DataType,
        ) -> datafusion::logical_expr::SetMonotonicity {
            self.$field.inner().set_monotonicity(data_type)
        }
    };
    (@ $field:tt documentation) => {
        fn documentation(&self) -> Option<&datafusion::logical_expr::Documentation> {
            self.$field.documentation()
        }
    };
}
