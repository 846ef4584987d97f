//! `get_stock_price`: made-up prices that show how a tool is written.

use serde_json::{Value, json};

use super::Builtin;

pub(super) const TOOL: Builtin = Builtin {
    name: "get_stock_price",
    description: "Tells the price of a share. The values are demo data, not real.",
    parameters,
    handler,
};

/// Symbol, company, price in cents, change of the day in cents.
const SHARES: &[(&str, &str, i32, i32)] = &[
    ("AAPL", "Apple", 21_250, 145),
    ("AMZN", "Amazon", 18_730, -92),
    ("GOOGL", "Alphabet", 17_615, 204),
    ("META", "Meta", 50_480, -310),
    ("MSFT", "Microsoft", 42_510, 388),
    ("NVDA", "Nvidia", 12_095, 267),
    ("SAP", "SAP", 24_360, 55),
    ("TSLA", "Tesla", 24_875, -421),
];

fn parameters() -> Value {
    json!({
        "type": "object",
        "properties": {
            "symbol": {
                "type": "string",
                "description": "Ticker symbol, such as MSFT",
                "minLength": 1,
                "maxLength": 12,
            },
        },
        "required": ["symbol"],
    })
}

fn handler(arguments: &Value) -> Result<Value, String> {
    let asked = arguments["symbol"].as_str().unwrap_or_default().trim();
    let found = SHARES.iter().find(|(symbol, ..)| symbol.eq_ignore_ascii_case(asked));
    let Some((symbol, company, price, change)) = found else {
        let symbols: Vec<&str> = SHARES.iter().map(|(symbol, ..)| *symbol).collect();
        let list = symbols.join(", ");
        return Err(format!("The demo data has no such symbol, only: {list}."));
    };
    Ok(json!({
        "symbol": symbol,
        "company": company,
        "price": f64::from(*price) / 100.0,
        "change": f64::from(*change) / 100.0,
        "currency": "USD",
        "note": "demo data",
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_symbols_in_any_case() {
        for text in ["MSFT", "msft", " Msft "] {
            let share = handler(&json!({ "symbol": text })).unwrap();
            assert_eq!((&share["symbol"], &share["price"]), (&json!("MSFT"), &json!(425.1)));
            assert_eq!(share["note"], "demo data");
        }
    }

    #[test]
    fn an_unknown_symbol_is_said_without_repeating_it() {
        let fault = handler(&json!({"symbol": "EVIL"})).unwrap_err();
        assert!(fault.contains("AAPL") && !fault.contains("EVIL"));
    }
}
