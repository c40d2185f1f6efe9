//! Calls a tool with the official SDK for Rust: call SOCKET KEY TOKEN-FILE RESOURCE

mod dpop;

use std::{env, error::Error, fs};

use rmcp::{
    ServiceExt as _,
    model::CallToolRequestParams,
    object,
    transport::{
        StreamableHttpClientTransport, streamable_http_client::StreamableHttpClientTransportConfig,
    },
};

use dpop::Broker;

/// The host of the address means nothing: the socket decides. `/mcp/time` is one tool alone.
const ADDRESS: &str = "http://stockade/mcp/time";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = env::args().skip(1).collect();
    let [socket, key, token, resource] = words.as_slice() else {
        return Err("call SOCKET KEY TOKEN-FILE RESOURCE".into());
    };
    let (key, token) = (fs::read_to_string(key)?, fs::read_to_string(token)?);
    let broker = Broker::new(socket, ADDRESS, &key, &token, resource)?;
    let config = StreamableHttpClientTransportConfig::with_uri(ADDRESS);
    let transport = StreamableHttpClientTransport::with_client(broker, config);
    let client = ().serve(transport).await?;
    for tool in client.list_all_tools().await? {
        println!("{} - {}", tool.name, tool.description.unwrap_or_default());
    }
    let call = CallToolRequestParams::new("now").with_arguments(object!({"timezone": "Asia/Tokyo"}));
    let result = client.call_tool(call).await?;
    println!("{}", result.structured_content.unwrap_or_default()["timezone"]);
    client.cancel().await?;
    Ok(())
}
