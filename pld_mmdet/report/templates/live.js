// Replaces <main> only, so that the page neither jumps nor flickers. Not while a
// picture is enlarged (the address has a #) or nobody looks.
let busy=false;
async function again(){
 if(document.hidden||busy||location.hash.length>1)return;
 busy=true;
 try{
  const answer=await fetch(location.pathname,{cache:"no-store"});
  const page=new DOMParser().parseFromString(await answer.text(),"text/html");
  document.querySelector("main").replaceWith(page.querySelector("main"));
  document.title=page.title;
  document.getElementById("gone").style.display="none";
 }catch{document.getElementById("gone").style.display="block"}
 busy=false;
}
setInterval(again,3000);
document.addEventListener("visibilitychange",again);
