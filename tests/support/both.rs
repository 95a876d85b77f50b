//! One test, two targets.

/// `name => run("prefix", "other")` makes two tests of `run(stack, prefix)`: `name::mysql` writes to MariaDB, `name::adb` to the stand-in for
/// AnalyticDB. Their schemas bear the prefixes, for both may run at the same time.
#[macro_export]
macro_rules! on_both_targets {
    ($($name:ident => $run:ident($mysql:literal, $adb:literal);)*) => {$(
        mod $name {
            #[tokio::test(flavor = "multi_thread")]
            async fn mysql() {
                if let Some(stack) = $crate::stack::Stack::utc(stringify!($name)) {
                    super::$run(stack.on($crate::stack::Dialect::Mysql), $mysql).await;
                }
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn adb() {
                if let Some(stack) = $crate::stack::Stack::utc(stringify!($name)) {
                    super::$run(stack.on_adb(), $adb).await;
                }
            }
        }
    )*};
}
